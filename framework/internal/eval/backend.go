package eval

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Backend interprets graphs. It implements framework.Backend.
type Backend struct {
	// Single rounds every f32 result to float32; otherwise f32 values stay in
	// float64 and tensors that come out are f64.
	Single bool
	// Flaw, when set, may spoil the results of a node: so a suite is tested
	// for what it must find.
	Flaw   func(n *graph.Node, in, out [][]float64)
	closed atomic.Bool
}

// New returns the oracle, computing in float64.
func New() *Backend { return &Backend{} }

// Name returns "eval".
func (b *Backend) Name() string { return "eval" }

// Close refuses what comes after it.
func (b *Backend) Close() error {
	b.closed.Store(true)
	return nil
}

// NewStore returns an empty store.
func (b *Backend) NewStore() (framework.Store, error) {
	if b.closed.Load() {
		return nil, errors.Wrap(framework.ErrClosed, "eval")
	}
	return &store{backend: b, held: map[string]value{}}, nil
}

// Compile expands the composites of g.
func (b *Backend) Compile(_ context.Context, g *graph.Graph) (framework.Executable, error) {
	if b.closed.Load() {
		return nil, errors.Wrap(framework.ErrClosed, "eval")
	}
	e := &executable{backend: b, g: g, body: map[*graph.Node]*graph.Graph{}}
	if err := e.expand(g); err != nil {
		return nil, errors.Wrapf(framework.ErrUnsupported, "eval: %v", err)
	}
	return e, nil
}

type store struct {
	backend *Backend
	parent  *store
	mu      sync.RWMutex
	held    map[string]value
	closed  atomic.Bool
}

func (s *store) find(name string) (value, bool) {
	for ; s != nil; s = s.parent {
		s.mu.RLock()
		v, ok := s.held[name]
		s.mu.RUnlock()
		if ok {
			return v, true
		}
	}
	return value{}, false
}

func (s *store) set(name string, v value) {
	s.mu.Lock()
	s.held[name] = v
	s.mu.Unlock()
}

// Put copies t in, under name.
func (s *store) Put(_ context.Context, name string, t *tensor.Tensor) error {
	if s.closed.Load() {
		return errors.Wrapf(framework.ErrClosed, "put %q", name)
	}
	if err := t.Check(); err != nil || len(t.Data) != t.Type.Bytes() {
		return errors.Wrapf(framework.ErrMismatch, "put %q", name)
	}
	typ := tensor.Type{DType: t.DType, Shape: slices.Clone(t.Shape)}
	if typ.DType == tensor.F64 {
		typ.DType = tensor.F32
	}
	s.set(name, fromTensor(t, typ).settle(s.backend.Single))
	return nil
}

// Get copies a tensor out.
func (s *store) Get(_ context.Context, name string) (*tensor.Tensor, error) {
	if s.closed.Load() {
		return nil, errors.Wrapf(framework.ErrClosed, "get %q", name)
	}
	v, ok := s.find(name)
	if !ok {
		return nil, errors.Wrapf(framework.ErrNoState, "%q", name)
	}
	return v.toTensor(wire(v.t, s.backend.Single)), nil
}

// Names returns the names held, sorted.
func (s *store) Names() []string {
	var names []string
	for ; s != nil; s = s.parent {
		s.mu.RLock()
		for n := range s.held {
			names = append(names, n)
		}
		s.mu.RUnlock()
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Fork returns a store whose reads fall through to s.
func (s *store) Fork() (framework.Store, error) {
	if s.closed.Load() {
		return nil, errors.Wrap(framework.ErrClosed, "fork")
	}
	return &store{backend: s.backend, parent: s, held: map[string]value{}}, nil
}

// Close refuses what comes after it.
func (s *store) Close() error {
	s.closed.Store(true)
	return nil
}

type executable struct {
	backend *Backend
	g       *graph.Graph
	body    map[*graph.Node]*graph.Graph // of each composite
	closed  atomic.Bool
}

// expand traces the body of every composite in g, and of those inside them.
func (e *executable) expand(g *graph.Graph) error {
	for _, n := range g.Nodes {
		if !n.Op.Composite() {
			continue
		}
		body, err := graph.Trace(func(b *graph.Builder) {
			in := make([]graph.Value, len(n.In))
			for i, v := range n.In {
				in[i] = b.Input("x"+string(rune('a'+i)), v.Type().DType, v.Shape()...)
			}
			for i, v := range n.Op.Expand(b, n.Attr, in) {
				b.Output("y"+strconv.Itoa(i), v)
			}
		})
		if err != nil {
			return err
		}
		if err := e.expand(body); err != nil {
			return err
		}
		e.body[n] = body
	}
	return nil
}

// Run interprets the graph; nothing is changed when it returns an error.
func (e *executable) Run(ctx context.Context, fs framework.Store, in, out []*tensor.Tensor) error {
	s, ok := fs.(*store)
	if !ok || s.backend != e.backend {
		return errors.Wrap(framework.ErrMismatch, "run: the store belongs to another backend")
	}
	if e.closed.Load() || s.closed.Load() {
		return errors.Wrap(framework.ErrClosed, "run")
	}
	args, err := e.arguments(in, out)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return errors.Wrap(err, "run")
	}
	states, err := e.states(s)
	if err != nil {
		return err
	}
	env, err := e.eval(e.g, args, states)
	if err != nil {
		return errors.Wrapf(framework.ErrInput, "%v", err)
	}
	for n, v := range states {
		if _, held := s.find(n.Name()); !held {
			s.set(n.Name(), v)
		}
	}
	for _, u := range e.g.Updates {
		s.set(u.State.Name(), env[u.Value])
	}
	for i, o := range e.g.Outputs {
		copy(out[i].Data, env[o.Value].toTensor(out[i].Type).Data)
	}
	return nil
}

// Close refuses what comes after it.
func (e *executable) Close() error {
	e.closed.Store(true)
	return nil
}

func (e *executable) arguments(in, out []*tensor.Tensor) ([]value, error) {
	if len(in) != len(e.g.Inputs) || len(out) != len(e.g.Outputs) {
		return nil, errors.Wrap(framework.ErrMismatch, "number of inputs or outputs")
	}
	args := make([]value, len(in))
	for i, n := range e.g.Inputs {
		t, want := in[i], n.Out[0]
		if t == nil || len(t.Data) != t.Type.Bytes() || !t.Type.Equal(want) && !t.Type.Equal(wire(want, e.backend.Single)) {
			return nil, errors.Wrapf(framework.ErrMismatch, "input %q", n.Name())
		}
		args[i] = fromTensor(t, want)
	}
	for i, o := range e.g.Outputs {
		if t := out[i]; t == nil || len(t.Data) != t.Type.Bytes() || !t.Type.Equal(wire(o.Value.Type(), e.backend.Single)) {
			return nil, errors.Wrapf(framework.ErrMismatch, "output %q", o.Name)
		}
	}
	return args, nil
}

func (e *executable) states(s *store) (map[*graph.Node]value, error) {
	m := map[*graph.Node]value{}
	for _, n := range e.g.States {
		v, ok := s.find(n.Name())
		switch {
		case !ok && n.IsParam():
			return nil, errors.Wrapf(framework.ErrNoState, "parameter %q", n.Name())
		case !ok:
			v = newValue(n.Out[0])
		case !v.t.Equal(n.Out[0]):
			return nil, errors.Wrapf(framework.ErrMismatch, "state %q", n.Name())
		}
		m[n] = v
	}
	return m, nil
}

// eval computes every node of g.
func (e *executable) eval(g *graph.Graph, args []value, states map[*graph.Node]value) (map[graph.Value]value, error) {
	env := map[graph.Value]value{}
	for i, n := range g.Inputs {
		env[graph.Value{N: n}] = args[i]
	}
	for n, v := range states {
		env[graph.Value{N: n}] = v
	}
	for _, n := range g.Nodes {
		if n.IsInput() || n.IsState() {
			continue
		}
		in := make([]value, len(n.In))
		for i, v := range n.In {
			in[i] = env[v]
		}
		res, err := e.node(n, in)
		if err != nil {
			return nil, errors.Wrapf(err, "%s @%s", n.Op.Name, n.Scope)
		}
		e.spoil(n, in, res)
		for i, v := range res {
			env[graph.Value{N: n, I: i}] = v
		}
	}
	return env, nil
}

func (e *executable) node(n *graph.Node, in []value) ([]value, error) {
	body := e.body[n]
	if body == nil {
		v, err := primitive(n, in)
		return []value{v.settle(e.backend.Single)}, err
	}
	if err := checkInput(n, in); err != nil {
		return nil, err
	}
	env, err := e.eval(body, in, nil)
	if err != nil {
		return nil, err
	}
	res := make([]value, len(body.Outputs))
	for i, o := range body.Outputs {
		res[i] = env[o.Value]
	}
	return res, nil
}

func (e *executable) spoil(n *graph.Node, in, res []value) {
	if e.backend.Flaw == nil {
		return
	}
	raw := func(vs []value) (f [][]float64) {
		for _, v := range vs {
			f = append(f, v.f)
		}
		return f
	}
	e.backend.Flaw(n, raw(in), raw(res))
}
