package compile

import (
	"cmp"
	"math"
	"slices"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Slot is where a value lives: in the store, in an input of the run, or at an
// offset of the arena.
type Slot struct {
	Offset, Bytes int
	State         *graph.Node // non-nil: in the memory of this state
	Input         *graph.Node // non-nil: in the memory of this input
}

// Plan is a lowered graph with a place for every value.
type Plan struct {
	Graph   *graph.Graph
	Slots   map[graph.Value]Slot
	Arena   int // bytes
	Naive   int // bytes that the arena would take if no memory were shared
	InPlace int // results written over a dying operand or their state
}

// span is the life of one piece of memory, from the node that writes it first
// to the last one that reads it.
type span struct {
	first, last, bytes, offset int
	state, input               *graph.Node
}

type placer struct {
	g     *graph.Graph
	plan  *Plan
	last  map[graph.Value]int // by root value
	of    map[graph.Value]*span
	spans []*span
}

// Place computes lifetimes and packs the arena, largest first, each value at
// the lowest offset that is free for its whole life. align is in bytes; size
// gives the bytes of a value, tensor.Type.Bytes when nil.
func Place(g *graph.Graph, align int, size func(tensor.Type) int) *Plan {
	if size == nil {
		size = tensor.Type.Bytes
	}
	p := &placer{
		g: g, plan: &Plan{Graph: g, Slots: map[graph.Value]Slot{}},
		last: lifetimes(g), of: map[graph.Value]*span{},
	}
	home := p.homes()
	for _, n := range g.States { // a state may be declared after the node that writes it
		p.of[graph.Value{N: n}] = &span{state: n}
	}
	for _, n := range g.Nodes {
		taken := map[*span]bool{}
		for i, t := range n.Out {
			v := graph.Value{N: n, I: i}
			bytes := (size(t) + align - 1) / align * align
			p.of[v] = p.spanOf(v, bytes, home[v], taken)
		}
	}
	p.pack()
	for v, s := range p.of {
		p.plan.Slots[v] = Slot{Offset: s.offset, Bytes: size(v.Type()), State: s.state, Input: s.input}
	}
	return p.plan
}

// Root follows views to the value whose memory v is.
func Root(v graph.Value) graph.Value {
	for v.N.Op.View {
		v = v.N.In[0]
	}
	return v
}

// lifetimes gives the last node that reads each root value; results and
// updates are read after the last node.
func lifetimes(g *graph.Graph) map[graph.Value]int {
	last := map[graph.Value]int{}
	for _, n := range g.Nodes {
		if n.Op.View {
			continue
		}
		idle := n.Idle()
		for i, v := range n.In {
			if !idle[i] {
				last[Root(v)] = n.ID
			}
		}
	}
	for _, o := range g.Outputs {
		last[Root(o.Value)] = len(g.Nodes)
	}
	for _, u := range g.Updates {
		last[Root(u.Value)] = len(g.Nodes)
	}
	return last
}

// homes finds the updates that can be written straight over their state: those
// of states that nobody reads, and those by an op that may take the memory of
// the operand that is the state, read no later.
func (p *placer) homes() map[graph.Value]*graph.Node {
	home := map[graph.Value]*graph.Node{}
	for _, u := range p.g.Updates {
		v, state := u.Value, graph.Value{N: u.State}
		if v.N.Op.View || v.N.IsState() || v.N.IsInput() {
			continue
		}
		last, read := p.last[state]
		if !read {
			home[v] = u.State
			continue
		}
		if v.I >= len(v.N.Op.Alias) || last != v.N.ID {
			continue
		}
		for _, k := range v.N.Op.Alias[v.I] {
			if v.N.In[k] == state && readOnce(v.N, k) {
				home[v] = u.State
			}
		}
	}
	return home
}

// readOnce reports whether no other operand of n shares operand k's memory.
func readOnce(n *graph.Node, k int) bool {
	for i, v := range n.In {
		if i != k && Root(v) == Root(n.In[k]) {
			return false
		}
	}
	return true
}

func (p *placer) spanOf(v graph.Value, bytes int, home *graph.Node, taken map[*span]bool) *span {
	n := v.N
	switch {
	case n.IsState():
		return p.of[v]
	case n.IsInput():
		return &span{input: n}
	case n.Op.View:
		return p.of[n.In[0]]
	}
	p.plan.Naive += bytes
	last, used := p.last[v]
	if !used {
		last = n.ID
	}
	if home != nil {
		p.plan.InPlace++
		return p.of[graph.Value{N: home}]
	}
	if s := p.reuse(v, bytes, taken); s != nil {
		s.last = max(s.last, last)
		taken[s] = true
		p.plan.InPlace++
		return s
	}
	s := &span{first: n.ID, last: last, bytes: bytes}
	p.spans = append(p.spans, s)
	return s
}

// reuse finds an operand that dies at v's node and whose memory v may take.
func (p *placer) reuse(v graph.Value, bytes int, taken map[*span]bool) *span {
	if v.I >= len(v.N.Op.Alias) {
		return nil
	}
	idle := v.N.Idle()
	for _, k := range v.N.Op.Alias[v.I] {
		s := p.of[v.N.In[k]]
		if s.state == nil && s.input == nil && s.bytes == bytes && s.last == v.N.ID && !taken[s] && !idle[k] &&
			sameWidth(v.N.In[k].Type(), v.Type()) && p.readEvenly(v.N, k) {
			return s
		}
	}
	return nil
}

// readEvenly reports whether all operands of n in the memory of operand k have
// its type. One that is a view of another shape, a matrix made of the streams
// that it mixes, say, may be read out of step with what is written.
func (p *placer) readEvenly(n *graph.Node, k int) bool {
	idle := n.Idle()
	for i, v := range n.In {
		if !idle[i] && p.of[v] == p.of[n.In[k]] && !v.Type().Equal(n.In[k].Type()) {
			return false
		}
	}
	return true
}

// sameWidth reports whether element i of both types lies at the same offset.
func sameWidth(a, b tensor.Type) bool {
	return a.DType == b.DType && a.Shape.Numel() == b.Shape.Numel()
}

// pack gives each span an offset.
func (p *placer) pack() {
	slices.SortStableFunc(p.spans, func(a, b *span) int { return cmp.Compare(b.bytes, a.bytes) })
	var placed []*span // by offset
	for _, s := range p.spans {
		for _, q := range placed {
			if q.first <= s.last && s.first <= q.last && q.offset < s.offset+s.bytes && s.offset < q.offset+q.bytes {
				s.offset = q.offset + q.bytes
			}
		}
		if s.offset+s.bytes < s.offset {
			p.plan.Arena = math.MaxInt // values beyond any memory
			return
		}
		p.plan.Arena = max(p.plan.Arena, s.offset+s.bytes)
		i, _ := slices.BinarySearchFunc(placed, s, func(a, b *span) int { return cmp.Compare(a.offset, b.offset) })
		placed = slices.Insert(placed, i, s)
	}
}

// PlaceApart is Place without sharing: every value has memory of its own. It
// is what a test compares Place with.
func PlaceApart(g *graph.Graph, align int, size func(tensor.Type) int) *Plan {
	if size == nil {
		size = tensor.Type.Bytes
	}
	p := &Plan{Graph: g, Slots: map[graph.Value]Slot{}}
	for _, n := range g.Nodes {
		for i, t := range n.Out {
			v := graph.Value{N: n, I: i}
			switch {
			case n.IsState():
				p.Slots[v] = Slot{Bytes: size(t), State: n}
			case n.IsInput():
				p.Slots[v] = Slot{Bytes: size(t), Input: n}
			case n.Op.View:
				s := p.Slots[n.In[0]]
				s.Bytes = size(t)
				p.Slots[v] = s
			default:
				p.Slots[v] = Slot{Offset: p.Arena, Bytes: size(t)}
				p.Arena += (size(t) + align - 1) / align * align
			}
		}
	}
	p.Naive = p.Arena
	return p
}
