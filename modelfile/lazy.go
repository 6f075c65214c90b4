package modelfile

import (
	"context"
	"sync"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
)

// lazy is a state that is read when it is needed.
type lazy struct {
	typ  tensor.Type
	fill func(dst *tensor.Tensor) error
}

// parts are the states that one weight becomes, by kind: codes, scales, mins or
// weight.
type parts map[string]*tensor.Tensor

// lazyWeight reads a weight once for the states that are asked for one after
// another. Of what was not asked for yet it keeps scales and minima, never codes.
type lazyWeight struct {
	mu sync.Mutex
	// read returns the weight's parts, the first of them, codes or weight, in dst
	// where that is as long as they are.
	read func(dst []byte) (parts, error)
	left parts
}

// first reports whether a kind is that of the part which read puts into memory
// that it is given.
func first(kind string) bool { return kind == "codes" || kind == "weight" }

// fill writes a part into dst.
func (l *lazyWeight) fill(kind string, dst *tensor.Tensor) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.left[kind]; t != nil {
		copy(dst.Data, t.Data)
		delete(l.left, kind)
		return nil
	}
	var room []byte
	if first(kind) {
		room = dst.Data
	}
	all, err := l.read(room)
	if err != nil {
		return err
	}
	t := all[kind]
	if t == nil || !t.Type.Equal(dst.Type) {
		return errors.AssertionFailedf("the %s of a weight are not %v", kind, dst.Type)
	}
	if &t.Data[0] != &dst.Data[0] {
		copy(dst.Data, t.Data)
	}
	delete(all, kind)
	delete(all, "codes")
	l.left = all
	return nil
}

// Tensor returns the state of a name.
func (w *Weights) Tensor(name string) (*tensor.Tensor, error) {
	if l, ok := w.lazy[name]; ok {
		t := tensor.New(l.typ)
		return t, l.fill(t)
	}
	t := w.Tensors[name]
	if t == nil {
		return nil, errors.Wrapf(framework.ErrNoState, "weight %q", name)
	}
	return t, nil
}

// Close closes the file that the weights are read from. Stores that hold them
// are closed first.
func (w *Weights) Close() error {
	if w.close == nil {
		return nil
	}
	return w.close()
}

// putLazy puts what is read from the file when it is needed.
func (w *Weights) putLazy(ctx context.Context, s framework.Store) error {
	d, can := s.(framework.Deferrer)
	for name, l := range w.lazy {
		if can {
			if err := d.Defer(ctx, name, l.typ, l.fill); err != nil {
				return errors.Wrapf(err, "load %s", name)
			}
			continue
		}
		t, err := w.Tensor(name)
		if err == nil {
			err = s.Put(ctx, name, t)
		}
		if err != nil {
			return errors.Wrapf(err, "load %s", name)
		}
	}
	return nil
}
