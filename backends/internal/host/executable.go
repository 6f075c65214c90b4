package host

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// executable is a plan, and its bindings to the stores it has run on.
type executable struct {
	backend *Backend
	plan    *compile.Plan
	hash    [32]byte
	mu      sync.Mutex
	bound   map[*store]*bound
	closed  atomic.Bool
}

// bound is a plan bound to one store: all memory is fixed, running allocates
// nothing.
type bound struct {
	generation uint64
	loops      []Loop
	safe       int // loops before the first that writes a state
	prepared   []preparation
	held       []*entry // deferred states that kernels read where they lie
	inputs     []tensor.Tensor
	outputs    []tensor.Tensor
	copies     []stateCopy
	written    []*entry
	failure    atomic.Pointer[error]
}

// preparation keeps a layout of states up to date.
type preparation struct {
	layout *derived
	fill   []Loop
	// late, instead of fill, makes the loops once the contents of deferred states
	// have been fetched.
	late    func(dst []byte, in []tensor.Tensor) []Loop
	types   []tensor.Type // of late's in
	inPlace bool          // the contents may be fetched into the layout's memory
}

// stateCopy moves an update's value into its state after the run.
type stateCopy struct {
	dst, src, stage []byte // stage is set when src is itself a state
}

// Run executes the plan once.
func (e *executable) Run(ctx context.Context, fs framework.Store, in, out []*tensor.Tensor) error {
	s, ok := fs.(*store)
	if !ok || s.backend != e.backend {
		return errors.Wrap(framework.ErrMismatch, "run: the store belongs to another backend")
	}
	if e.closed.Load() || s.closed.Load() || e.backend.closed.Load() {
		return errors.Wrap(framework.ErrClosed, "run")
	}
	b, err := e.bind(s)
	if err != nil {
		return err
	}
	if err := e.takeInputs(b, in, out); err != nil {
		return err
	}
	if err := b.run(ctx, e.backend.pool); err != nil {
		return err
	}
	// Before states change: an output may be a state.
	for i, t := range out {
		e.backend.store(t, b.outputs[i])
	}
	b.commit()
	return nil
}

// unbind drops the binding to a store that is closed.
func (e *executable) unbind(s *store) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.bound, s)
}

// Close drops the bindings.
func (e *executable) Close() error {
	e.closed.Store(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.bound)
	return nil
}

func (e *executable) takeInputs(b *bound, in, out []*tensor.Tensor) error {
	g := e.plan.Graph
	if len(in) != len(g.Inputs) || len(out) != len(g.Outputs) {
		return errors.Wrapf(framework.ErrMismatch, "run: %d inputs and %d outputs, the graph has %d and %d", len(in), len(out), len(g.Inputs), len(g.Outputs))
	}
	for i, n := range g.Inputs {
		if !e.backend.accepts(in[i], n.Out[0]) {
			return errors.Wrapf(framework.ErrMismatch, "input %q: wants %v", n.Name(), n.Out[0])
		}
		e.backend.load(b.inputs[i], in[i])
	}
	for i, o := range g.Outputs {
		if !e.backend.accepts(out[i], o.Value.Type()) {
			return errors.Wrapf(framework.ErrMismatch, "output %q: wants %v", o.Name, o.Value.Type())
		}
	}
	return nil
}

// run computes all values; updates that are not in place are left to commit.
func (b *bound) run(ctx context.Context, pool *Pool) error {
	if err := ctx.Err(); err != nil {
		return errors.Wrap(err, "run")
	}
	b.failure.Store(nil)
	if err := b.fetch(pool.Workers()); err != nil {
		return errors.Wrap(err, "fetch the states of a run")
	}
	for _, p := range b.prepared {
		if p.late == nil {
			p.layout.refresh(pool, p.fill)
		}
	}
	for i, l := range b.loops {
		// Nothing is stopped half-way once a state has changed.
		if i%64 == 63 && i < b.safe {
			if err := ctx.Err(); err != nil {
				return errors.Wrap(err, "run")
			}
		}
		pool.Run(l)
	}
	if err := b.failure.Load(); err != nil {
		b.changed() // states may have been written in place
		return errors.WithSecondaryError(errors.Wrapf(framework.ErrInput, "%v", *err), *err)
	}
	return nil
}

// commit moves the values of updates into their states.
func (b *bound) commit() {
	for _, c := range b.copies {
		if c.stage != nil {
			copy(c.stage, c.src)
		}
	}
	for _, c := range b.copies {
		if c.stage != nil {
			copy(c.dst, c.stage)
		} else {
			copy(c.dst, c.src)
		}
	}
	b.changed()
}

// changed tells layouts made of the states that are written.
func (b *bound) changed() {
	for _, e := range b.written {
		e.version.Add(1)
	}
}

// bind returns the binding to s, making it when there is none that is current.
func (e *executable) bind(s *store) (*bound, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b := e.bound[s]; b != nil && b.generation == s.generation() {
		return b, nil
	}
	delete(e.bound, s) // its memory goes before more is taken
	b, err := newBinder(e.backend, e.plan, s).bind()
	if err != nil {
		return nil, err
	}
	e.bound[s] = b
	s.onClose(e)
	return b, nil
}

var (
	_ framework.Executable = (*executable)(nil)
	_ framework.Backend    = (*Backend)(nil)
	_ framework.Describer  = (*Backend)(nil)
)

// writesState reports whether n writes a state in place.
func writesState(p *compile.Plan, n *graph.Node) bool {
	for i := range n.Out {
		if p.Slots[graph.Value{N: n, I: i}].State != nil && !n.IsState() && !n.Op.View {
			return true
		}
	}
	return false
}
