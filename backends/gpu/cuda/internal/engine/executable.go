package engine

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
)

// executable is a plan, and its bindings to the stores it has run on.
type executable struct {
	backend *Backend
	plan    *plan
	mu      sync.Mutex
	bound   map[*store]*bound
	closed  atomic.Bool
}

// Run implements framework.Executable: one launch of the graph that was captured.
func (e *executable) Run(ctx context.Context, fs framework.Store, in, out []*tensor.Tensor) error {
	s, ok := fs.(*store)
	if !ok || s.backend != e.backend {
		return errors.Wrap(framework.ErrMismatch, "run: the store belongs to another backend")
	}
	if e.closed.Load() || s.closed.Load() || e.backend.closed.Load() {
		return errors.Wrap(framework.ErrClosed, "run")
	}
	if err := e.check(in, out); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return errors.Wrap(err, "run")
	}
	b, err := e.bind(s)
	if err != nil {
		return err
	}
	for i, t := range in {
		copy(b.in.Bytes()[b.inputs[i].offset:], t.Data)
	}
	err = b.launch()
	for _, w := range b.written { // after an error they are anything
		w.version.Add(1)
	}
	if err != nil {
		return err
	}
	for i, t := range out {
		copy(t.Data, b.out.Bytes()[b.outputs[i].offset:])
	}
	return nil
}

// launch runs the parts of b and waits for them.
func (b *bound) launch() error {
	first := b.once != nil && b.once.stale()
	if first {
		if err := b.once.graph.Launch(b.store.stream); err != nil {
			return errors.Wrap(err, "run")
		}
	}
	if err := b.graph.Launch(b.store.stream); err != nil {
		return errors.Wrap(err, "run")
	}
	if err := b.store.stream.Synchronize(); err != nil {
		return errors.Wrap(err, "run")
	}
	if first {
		if err := b.once.failed(); err != nil {
			return err
		}
		b.once.ran()
	}
	return b.failed()
}

// check compares tensors with what the graph declares.
func (e *executable) check(in, out []*tensor.Tensor) error {
	g := e.plan.Graph
	if len(in) != len(g.Inputs) || len(out) != len(g.Outputs) {
		return errors.Wrapf(framework.ErrMismatch, "run: %d inputs and %d outputs, the graph has %d and %d", len(in), len(out), len(g.Inputs), len(g.Outputs))
	}
	for i, n := range g.Inputs {
		if !fits(in[i], n.Out[0]) {
			return errors.Wrapf(framework.ErrMismatch, "input %q: wants %v", n.Name(), n.Out[0])
		}
	}
	for i, o := range g.Outputs {
		if !fits(out[i], o.Value.Type()) {
			return errors.Wrapf(framework.ErrMismatch, "output %q: wants %v", o.Name, o.Value.Type())
		}
	}
	return nil
}

func fits(t *tensor.Tensor, want tensor.Type) bool {
	return t != nil && t.Equal(want) && len(t.Data) == want.Bytes()
}

// bind returns the binding to s, making it when there is none that is current.
func (e *executable) bind(s *store) (*bound, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.bound[s]
	if b != nil && b.generation == s.generation() {
		return b, nil
	}
	if b != nil { // its memory goes before more is taken
		delete(e.bound, s)
		if err := b.free(); err != nil {
			return nil, err
		}
	}
	b, err := e.newBound(s)
	if err != nil {
		return nil, err
	}
	e.bound[s] = b
	s.onClose(e)
	return b, nil
}

// unbind drops the binding to a store that is closed.
func (e *executable) unbind(s *store) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.bound[s]
	delete(e.bound, s)
	if b == nil {
		return nil
	}
	return b.free()
}

// Close implements framework.Executable.
func (e *executable) Close() error {
	if e.closed.Swap(true) || e.backend.closed.Load() {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	for s, b := range e.bound {
		if !s.closed.Load() {
			err = errors.CombineErrors(err, b.free())
		}
	}
	clear(e.bound)
	return errors.Wrap(err, "close executable")
}

var _ framework.Executable = (*executable)(nil)
