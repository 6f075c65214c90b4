package engine

import (
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// bound is a plan bound to the memory of one store, as a CUDA graph that takes
// its inputs from pinned memory and leaves its outputs there.
type bound struct {
	store      *store
	generation uint64
	graph      *driver.Graph

	in, out *driver.Pinned
	inputs  []span // of in, in the order of the graph's inputs
	outputs []span // of out
	report  span   // of out: what kernels say of values that are out of range

	failure driver.Pointer // two words, of which the report is a copy
	nodes   []*graph.Node  // that may report; the first is number 1

	once    *bound   // runs first when what it reads has changed; or nil
	read    []*entry // the states that it reads, if this is such a part
	seen    []uint64 // their versions when it ran last; nil: never
	written []*entry // the states that a run changes

	steps     []step // what the graph was made of
	marks     []mark // which of them are whose
	constants []driver.Pointer
	matmuls   []*driver.Matmul
}

// mark says that steps [from,to) are the node's.
type mark struct {
	node     *graph.Node
	from, to int
}

// span is a part of some memory.
type span struct{ offset, bytes int }

// binder binds a plan to a store.
type binder struct {
	plan    *plan
	store   *store
	out     *bound
	private map[string]*entry // between the parts of a graph
	states  map[*graph.Node]*entry
	input   map[*graph.Node]driver.Pointer
	arena   driver.Pointer
	rest    driver.Pointer // scratch
}

func newBinder(p *plan, s *store, private map[string]*entry) *binder {
	return &binder{
		plan: p, store: s, out: &bound{store: s}, private: private,
		states: map[*graph.Node]*entry{}, input: map[*graph.Node]driver.Pointer{},
	}
}

func (e *executable) newBound(s *store) (*bound, error) {
	b := newBinder(e.plan, s, map[string]*entry{})
	if err := b.bindParts(); err != nil {
		return nil, errors.CombineErrors(err, b.out.free())
	}
	return b.out, nil
}

// bindParts binds the plan and what runs before it. Both work in the same memory.
func (b *binder) bindParts() error {
	work := b.plan.work()
	if b.plan.once != nil {
		work = max(work, b.plan.once.work())
	}
	if _, err := b.store.workspace(int(work)); err != nil {
		return err
	}
	for name, t := range privateTypes(b.plan.Graph) {
		p, err := b.store.alloc(t.Bytes(), "coefficients")
		if err != nil {
			return err
		}
		b.out.constants = append(b.out.constants, p)
		b.private[name] = &entry{t: t, data: p}
	}
	if b.plan.once != nil {
		first := newBinder(b.plan.once, b.store, b.private)
		b.out.once = first.out
		if err := first.bind(); err != nil {
			return err
		}
	}
	return b.bind()
}

func (b *binder) bind() error {
	if err := b.bindStates(); err != nil {
		return err
	}
	if err := b.bindMemory(); err != nil {
		return err
	}
	for _, n := range b.plan.Graph.Nodes {
		if n.IsInput() || n.IsState() || n.Op.View {
			continue
		}
		if err := b.bindNode(n); err != nil {
			return errors.Wrapf(err, "bind %s @%s", n.Op.Name, n.Scope)
		}
	}
	updates, err := b.bindUpdates()
	if err != nil {
		return err
	}
	if err := b.warm(); err != nil {
		return err
	}
	if err := b.capture(updates); err != nil {
		return err
	}
	b.out.generation = b.store.generation() // binding may have changed it
	// What binding gave to the stream is done before memory is read elsewhere.
	return errors.Wrap(b.store.stream.Synchronize(), "bind")
}

func (b *binder) bindStates() error {
	written := map[*graph.Node]bool{}
	for _, u := range b.plan.Graph.Updates {
		written[u.State] = true
	}
	for _, n := range b.plan.Graph.States {
		if e := b.private[n.Name()]; e != nil {
			b.states[n] = e
			continue
		}
		e, err := b.store.state(n, written[n])
		if err != nil {
			return err
		}
		b.states[n] = e
		b.out.read = append(b.out.read, e)
		if written[n] {
			b.out.written = append(b.out.written, e)
		}
	}
	return nil
}

// work is the bytes of working memory of a run.
func (p *plan) work() int64 {
	bytes := int64(roundUp(p.Arena)) + int64(p.scratch) + align
	for _, n := range p.Graph.Inputs {
		bytes += int64(roundUp(n.Out[0].Bytes()))
	}
	return bytes
}

// bindMemory lays out the working memory (values, scratch, inputs and the words
// of the report) and the pinned memory.
func (b *binder) bindMemory() error {
	g, o := b.plan.Graph, b.out
	inBytes := 0
	for _, n := range g.Inputs {
		o.inputs = append(o.inputs, span{inBytes, n.Out[0].Bytes()})
		inBytes += roundUp(n.Out[0].Bytes())
	}
	outBytes := 0
	for _, v := range g.Outputs {
		o.outputs = append(o.outputs, span{outBytes, v.Value.Type().Bytes()})
		outBytes += roundUp(v.Value.Type().Bytes())
	}
	o.report = span{outBytes, 8}
	arena := roundUp(b.plan.Arena)
	work, err := b.store.workspace(int(b.plan.work()))
	if err != nil {
		return err
	}
	b.arena, b.rest = work, work+driver.Pointer(arena)
	from := b.rest + driver.Pointer(b.plan.scratch)
	for i, n := range g.Inputs {
		b.input[n] = from + driver.Pointer(o.inputs[i].offset)
	}
	o.failure = from + driver.Pointer(inBytes)
	if o.in, err = b.store.device.context.Pin(max(inBytes, 1)); err != nil {
		return err
	}
	o.out, err = b.store.device.context.Pin(outBytes + 8)
	return err
}

// pointer is where v lies.
func (b *binder) pointer(v graph.Value) driver.Pointer {
	switch s := b.plan.Slots[v]; {
	case s.State != nil:
		return b.states[s.State].data
	case s.Input != nil:
		return b.input[s.Input]
	default:
		return b.arena + driver.Pointer(s.Offset)
	}
}

func (b *binder) bindNode(n *graph.Node) error {
	c := &Call{Node: n, Device: b.store.device, Scratch: b.rest, b: b.out}
	idle := n.Idle()
	for i, v := range n.In {
		p := b.pointer(v)
		if idle[i] {
			p = 0
		}
		c.In = append(c.In, p)
	}
	for i := range n.Out {
		c.Out = append(c.Out, b.pointer(graph.Value{N: n, I: i}))
	}
	from := len(b.out.steps)
	err := b.plan.kernels[n].Bind(c)
	b.out.marks = append(b.out.marks, mark{n, from, len(b.out.steps)})
	return err
}

// bindUpdates returns the copies that move values into their states at the end
// of a run. One whose value is itself a state goes through memory of its own,
// since that state may change too.
func (b *binder) bindUpdates() (copies []step, err error) {
	var late []step
	for _, u := range b.plan.Graph.Updates {
		dst, slot := b.states[u.State], b.plan.Slots[u.Value]
		src, bytes := b.pointer(u.Value), dst.t.Bytes()
		switch {
		case slot.State == u.State: // written in place, or unchanged
		case slot.State != nil:
			stage, err := b.store.alloc(bytes, u.State.Name())
			if err != nil {
				return nil, err
			}
			b.out.constants = append(b.out.constants, stage)
			copies = append(copies, copyStep{stage, src, bytes})
			late = append(late, copyStep{dst.data, stage, bytes})
		default:
			late = append(late, copyStep{dst.data, src, bytes})
		}
	}
	return append(copies, late...), nil
}

// capture makes the CUDA graph of a run. Outputs leave before states change,
// since an output may be a state.
func (b *binder) capture(updates []step) error {
	o, s, g := b.out, b.store.stream, b.plan.Graph
	var err error
	o.graph, err = s.Capture(func() error {
		if len(g.Inputs) > 0 {
			last := o.inputs[len(o.inputs)-1]
			if err := s.Upload(b.input[g.Inputs[0]], o.in, 0, last.offset+last.bytes); err != nil {
				return err
			}
		}
		if err := s.Fill32(o.failure, 0, 2); err != nil {
			return err
		}
		for _, st := range o.steps {
			if err := st.run(s); err != nil {
				return err
			}
		}
		for i, v := range g.Outputs {
			if err := s.Download(o.out, o.outputs[i].offset, o.outputs[i].bytes, b.pointer(v.Value)); err != nil {
				return err
			}
		}
		for _, st := range updates {
			if err := st.run(s); err != nil {
				return err
			}
		}
		return s.Download(o.out, o.report.offset, o.report.bytes, o.failure)
	})
	return errors.Wrap(err, "capture a run")
}

// failing is the number by which n reports.
func (b *bound) failing(n *graph.Node) int {
	if k := len(b.nodes); k == 0 || b.nodes[k-1] != n {
		b.nodes = append(b.nodes, n)
	}
	return len(b.nodes)
}

// failed is the error that kernels reported in the last run.
func (b *bound) failed() error {
	words := b.out.Bytes()[b.report.offset:]
	node, value := word(words), word(words[4:])
	if node == 0 {
		return nil
	}
	what := fmt.Sprintf("node %d", node)
	if 0 < node && int(node) <= len(b.nodes) {
		n := b.nodes[node-1]
		what = fmt.Sprintf("%s @%s", n.Op.Name, n.Scope)
	}
	return errors.Wrapf(framework.ErrInput, "%s: %d is out of range", what, value)
}

func word(b []byte) int32 {
	return int32(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
}

// Constant returns memory of the device that holds data for as long as the
// binding lives.
func (c *Call) Constant(data []byte) (driver.Pointer, error) {
	p, err := c.b.store.alloc(len(data), c.Node.Op.Name)
	if err != nil {
		return 0, err
	}
	c.b.constants = append(c.b.constants, p)
	return p, c.Device.context.Upload(p, data)
}

// matmul plans a product and appends it.
func (b *bound) matmul(spec driver.MatmulSpec, x, y, z, out driver.Pointer) error {
	d := b.store.device
	if d.blas == nil {
		return errors.Wrap(driver.ErrNotSupported, "there is no cuBLASLt")
	}
	work, err := b.store.blasWork()
	if err != nil {
		return err
	}
	spec.Workspace = blasBytes
	spec.Align = [3]int{alignment(x), alignment(y), alignment(z | out)}
	m, err := d.blas.Plan(spec)
	if err != nil {
		return err
	}
	b.matmuls = append(b.matmuls, m)
	b.steps = append(b.steps, matmulStep{spec, m, x, y, z, out, work})
	return nil
}

// alignment is how many bytes p is a multiple of, as far as it matters.
func alignment(p driver.Pointer) int { return int(min(align, (p|align)&-(p|align))) }

// warm runs each product that the device has not run yet, with its result in the
// memory of values, where nothing is before a run: CUDA loads a library's kernel
// when it is first launched ("lazy loading", CUDA programming guide), for which it
// may allocate and wait, and neither belongs in a capture. One whose result is larger
// than that memory, which only a state is, is left to the capture.
func (b *binder) warm() error {
	s := b.store
	for _, st := range b.out.steps {
		m, ok := st.(matmulStep)
		if !ok || m.spec.D.Bytes() > s.workBytes || !s.device.first(m.spec) {
			continue
		}
		m.z, m.d = 0, s.work
		if err := m.run(s.stream); err != nil {
			return errors.Wrap(err, "first run of a product")
		}
		if err := s.stream.Synchronize(); err != nil {
			return errors.Wrap(err, "first run of a product")
		}
	}
	return nil
}

// stale reports whether a state that b reads has changed since b ran last.
func (b *bound) stale() bool {
	if b.seen == nil {
		return true
	}
	for i, e := range b.read {
		if b.seen[i] != e.version.Load() {
			return true
		}
	}
	return false
}

// ran says that b's results are of what the states that it reads are now.
func (b *bound) ran() {
	if b.seen == nil {
		b.seen = make([]uint64, len(b.read))
	}
	for i, e := range b.read {
		b.seen[i] = e.version.Load()
	}
}

// free gives back what the binding holds.
func (b *bound) free() error {
	var err error
	if b.once != nil {
		err = b.once.free()
	}
	if b.graph != nil {
		err = errors.CombineErrors(err, b.graph.Destroy())
	}
	for _, p := range []*driver.Pinned{b.in, b.out} {
		if p != nil {
			err = errors.CombineErrors(err, p.Free())
		}
	}
	for _, p := range b.constants {
		err = errors.CombineErrors(err, b.store.device.context.Free(p))
	}
	for _, m := range b.matmuls {
		err = errors.CombineErrors(err, m.Destroy())
	}
	return err
}
