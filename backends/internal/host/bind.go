package host

import (
	"fmt"

	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// binder binds a plan to a store: it gives each value its memory and asks each
// kernel for its loops.
type binder struct {
	backend *Backend
	plan    *compile.Plan
	store   *store
	arena   []byte
	scratch []byte
	states  map[*graph.Node]*entry
	held    map[*graph.Node][]byte // contents of deferred states that kernels read in place
	inputs  map[*graph.Node]tensor.Tensor
	out     *bound
}

func newBinder(b *Backend, p *compile.Plan, s *store) *binder {
	return &binder{
		backend: b, plan: p, store: s, out: &bound{},
		states: map[*graph.Node]*entry{}, held: map[*graph.Node][]byte{}, inputs: map[*graph.Node]tensor.Tensor{},
	}
}

func (b *binder) bind() (*bound, error) {
	g := b.plan.Graph
	if err := b.bindStates(); err != nil {
		return nil, err
	}
	b.holdStates()
	arena := roundUp(b.plan.Arena)
	work := b.store.workspace(arena + b.scratchBytes())
	b.arena, b.scratch = work[:b.plan.Arena], work[arena:]
	for _, n := range g.Inputs {
		b.inputs[n] = b.backend.alloc(n.Out[0])
		b.out.inputs = append(b.out.inputs, b.inputs[n])
	}
	safe := -1
	for _, n := range g.Nodes {
		if n.IsInput() || n.IsState() || n.Op.View {
			continue
		}
		if safe < 0 && writesState(b.plan, n) {
			safe = len(b.out.loops)
		}
		b.bindNode(n)
	}
	b.out.safe = safe
	if safe < 0 {
		b.out.safe = len(b.out.loops)
	}
	for _, o := range g.Outputs {
		b.out.outputs = append(b.out.outputs, b.buffer(o.Value))
	}
	b.bindUpdates()
	// Binding may have added buffers to the store.
	b.out.generation = b.store.generation()
	return b.out, nil
}

func (b *binder) bindStates() error {
	written, little := map[*graph.Node]bool{}, map[*graph.Node]bool{}
	for _, u := range b.plan.Graph.Updates {
		written[u.State], little[u.State] = true, u.Value.N.Op.Name == "updateat"
	}
	for _, n := range b.plan.Graph.States {
		e, err := b.store.state(n, written[n], little[n])
		if err != nil {
			return err
		}
		b.states[n] = e
		if written[n] {
			b.out.written = append(b.out.written, e)
		}
	}
	return nil
}

func (b *binder) bindUpdates() {
	for _, u := range b.plan.Graph.Updates {
		dst := b.states[u.State].t.Data
		slot := b.plan.Slots[u.Value]
		src := b.buffer(u.Value).Data
		switch {
		case slot.State == u.State: // written in place, or unchanged
		case slot.State != nil:
			b.out.copies = append(b.out.copies, stateCopy{dst, src, make([]byte, len(src))})
		default:
			b.out.copies = append(b.out.copies, stateCopy{dst, src, nil})
		}
	}
}

// buffer is the memory of v.
func (b *binder) buffer(v graph.Value) tensor.Tensor {
	s := b.plan.Slots[v]
	t := tensor.Tensor{Type: v.Type()}
	switch {
	case s.State != nil && b.states[s.State].source != nil:
		t.Data = b.held[s.State]
	case s.State != nil:
		t.Data = b.states[s.State].t.Data
	case s.Input != nil:
		t.Data = b.inputs[s.Input].Data
	default:
		t.Data = b.arena[s.Offset : s.Offset+s.Bytes : s.Offset+s.Bytes]
	}
	return t
}

// scratchBytes is the largest need of any node: nodes run one after another.
func (b *binder) scratchBytes() int {
	most := 0
	for _, n := range b.plan.Graph.Nodes {
		k, ok := b.backend.table.Pick(n)
		if !ok {
			continue
		}
		need := 0
		if k.Scratch != nil {
			need = roundUp(k.Scratch(n))
		}
		if k.Prepare != nil {
			for _, p := range k.Prepare(n) {
				if !b.fromStates(n, p) {
					need += roundUp(p.Bytes)
				}
			}
		}
		most = max(most, need)
	}
	return most
}

func roundUp(n int) int { return (n + 63) &^ 63 }

// fromStates reports whether a layout is made of states that the run only
// reads.
func (b *binder) fromStates(n *graph.Node, p Prepared) bool {
	for _, i := range p.Operands {
		slot := b.plan.Slots[n.In[i]]
		if slot.State == nil {
			return false
		}
		for _, u := range b.plan.Graph.Updates {
			if u.State == slot.State {
				return false
			}
		}
	}
	return true
}

func (b *binder) bindNode(n *graph.Node) {
	k, ok := b.backend.table.Pick(n)
	if !ok {
		panic("host: no kernel for " + n.Op.Name) // Lower has checked
	}
	c := &Call{Node: n, failure: &b.out.failure}
	idle := n.Idle()
	for i, v := range n.In {
		t := b.buffer(v)
		if idle[i] {
			t.Data = nil
		}
		c.In = append(c.In, t)
	}
	for i := range n.Out {
		c.Out = append(c.Out, b.buffer(graph.Value{N: n, I: i}))
	}
	used := 0
	if k.Scratch != nil {
		used = roundUp(k.Scratch(n))
		c.Scratch = b.scratch[:used]
	}
	if k.Prepare != nil {
		for _, p := range k.Prepare(n) {
			c.Prepared = append(c.Prepared, b.prepare(n, c, p, &used))
		}
	}
	b.out.loops = append(b.out.loops, k.Bind(c)...)
}

// prepare gives a layout its memory: beside the states that it is made of, or
// in scratch, filled before each use.
func (b *binder) prepare(n *graph.Node, c *Call, p Prepared, used *int) []byte {
	in := make([]tensor.Tensor, len(p.Operands))
	for i, k := range p.Operands {
		in[i] = c.In[k]
	}
	if !b.fromStates(n, p) {
		data := b.scratch[*used : *used+p.Bytes : *used+p.Bytes]
		*used += roundUp(p.Bytes)
		b.out.loops = append(b.out.loops, p.Fill(data, in)...)
		return data
	}
	key := p.Key
	owner := b.store
	from := make([]*entry, len(p.Operands))
	for i, k := range p.Operands {
		state := b.plan.Slots[n.In[k]].State
		from[i] = b.states[state]
		key += fmt.Sprintf("|%s %v", state.Name(), n.In[k].Type()) // a view of another shape is another layout
		if i == 0 {
			_, owner = b.store.find(state.Name())
		}
	}
	d := owner.layout(key, p.Bytes, from)
	for _, q := range b.out.prepared {
		if q.layout == d {
			return d.data
		}
	}
	made := preparation{layout: d}
	if p.deferred(from) {
		made.late, made.inPlace = p.Fill, p.InPlace && len(from) == 1
		for _, t := range in {
			made.types = append(made.types, t.Type)
		}
	} else {
		made.fill = p.Fill(d.data, in)
	}
	b.out.prepared = append(b.out.prepared, made)
	return d.data
}
