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
	typ   tensor.Type
	fetch func() (*tensor.Tensor, error)
}

// parts are the states that one weight becomes, by kind: codes, scales, mins or
// weight.
type parts map[string]*tensor.Tensor

// lazyWeight reads a weight once for the states that are asked for one after
// another. Of what was not asked for yet it keeps scales and minima, never codes.
type lazyWeight struct {
	mu   sync.Mutex
	read func() (parts, error)
	left parts
}

func (l *lazyWeight) part(kind string) (*tensor.Tensor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.left[kind]; t != nil {
		delete(l.left, kind)
		return t, nil
	}
	all, err := l.read()
	if err != nil {
		return nil, err
	}
	t := all[kind]
	if t == nil {
		return nil, errors.AssertionFailedf("a weight has no %s", kind)
	}
	delete(all, kind)
	delete(all, "codes")
	l.left = all
	return t, nil
}

// Tensor returns the state of a name.
func (w *Weights) Tensor(name string) (*tensor.Tensor, error) {
	if l, ok := w.lazy[name]; ok {
		return l.fetch()
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
			if err := d.Defer(ctx, name, l.typ, l.fetch); err != nil {
				return errors.Wrapf(err, "load %s", name)
			}
			continue
		}
		t, err := l.fetch()
		if err == nil {
			err = s.Put(ctx, name, t)
		}
		if err != nil {
			return errors.Wrapf(err, "load %s", name)
		}
	}
	return nil
}
