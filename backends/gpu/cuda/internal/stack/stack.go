package stack

import (
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
)

// What fills a device, and what may be taken for it.
const (
	tile      = 128      // rows and columns of a block of a product, as large kernels have them
	wantTiles = 4 * 132  // blocks of the smallest product of a stack: four for each multiprocessor of an H200
	maxBytes  = 48 << 20 // of a stacked value
	launch    = 10 << 20 // bytes that memory moves in the time of a launch: 2 microseconds of 4.8 TB/s
)

// Stack replaces equal computations with products by stacks of them, where that
// saves more than joining their operands takes. It is a pass of engine.Config.
func Stack(g *graph.Graph) (*graph.Graph, error) {
	if !slices.ContainsFunc(g.Nodes, seed) {
		return g, nil
	}
	f := newFinder(g)
	var piles []*pile
	for _, c := range f.classes(f.islands()) {
		piles = append(piles, c.piles()...)
	}
	if len(piles) == 0 {
		return g, nil
	}
	out, err := graph.Trace(newRebuilding(g, piles).run)
	return out, errors.Wrap(err, "stack")
}

// pile is computations that become one.
type pile struct {
	members []*island
	at      map[*graph.Node]place // of their nodes
	made    []stacked             // by the places of nodes, once it is there
}

// place is where a node stands in a pile.
type place struct{ member, node int }

// piles cuts a class into parts of nearly the same size, which fill the device and
// are small enough, or is nil where there is nothing to gain.
func (c class) piles() []*pile {
	least, most := 1<<30, 1
	for _, n := range c[0].nodes {
		if n.Op == opMatMul {
			least = min(least, tiles(n))
		}
		most = max(most, n.Out[0].Bytes())
	}
	for _, v := range c[0].in {
		most = max(most, v.Type().Bytes())
	}
	fill, room := (wantTiles+least-1)/least, maxBytes/most
	if len(c) < 2 || fill < 2 || room < 2 {
		return nil
	}
	count := max((len(c)+fill/2)/fill, (len(c)+room-1)/room, 1)
	var all []*pile
	for i := range count {
		p := newPile(c[i*len(c)/count : (i+1)*len(c)/count])
		if p.pays() {
			all = append(all, p)
		}
	}
	return all
}

// tiles counts the blocks of a product.
func tiles(n *graph.Node) int {
	s := n.Out[0].Shape
	r := len(s)
	return s[:r-2].Numel() * ((s[r-2] + tile - 1) / tile) * ((s[r-1] + tile - 1) / tile)
}

func newPile(members []*island) *pile {
	p := &pile{members: members, at: map[*graph.Node]place{}}
	for i, c := range members {
		for j, n := range c.nodes {
			p.at[n] = place{i, j}
		}
	}
	return p
}

// pays reports whether the launches of products that are saved take longer than
// joining the operands, each of which is read and written once. Elementwise work
// between products is launches too, but how many is not known here.
func (p *pile) pays() bool {
	saved, moved := 0, 0
	for _, n := range p.members[0].nodes {
		if n.Op == opMatMul {
			saved += (len(p.members) - 1) * launch
		}
	}
	for _, v := range p.members[0].in {
		moved += 2 * len(p.members) * v.Type().Bytes()
	}
	return saved > moved
}

// rebuilding copies a graph with piles in the place of their members.
//
// A pile stands where the first of its results is wanted. What depends on it and on
// no other follows at once, so that its results, which are large, die before those of
// the next pile come.
type rebuilding struct {
	g      *graph.Graph
	b      *graph.Builder
	env    map[graph.Value]graph.Value
	of     []*pile                 // by nodes: of members
	behind map[*pile][]*graph.Node // what depends on that pile alone
}

func newRebuilding(g *graph.Graph, piles []*pile) *rebuilding {
	r := &rebuilding{g: g, env: map[graph.Value]graph.Value{}, of: make([]*pile, len(g.Nodes)), behind: map[*pile][]*graph.Node{}}
	for _, p := range piles {
		for n := range p.at {
			r.of[n.ID] = p
		}
	}
	several := &pile{}
	from := slices.Clone(r.of) // the pile that a node depends on
	for _, n := range g.Nodes {
		if r.of[n.ID] != nil {
			continue
		}
		for _, v := range n.In {
			switch p := from[v.N.ID]; {
			case p == nil || p == from[n.ID]:
			case from[n.ID] == nil:
				from[n.ID] = p
			default:
				from[n.ID] = several
			}
		}
		if p := from[n.ID]; p != nil && p != several {
			r.behind[p] = append(r.behind[p], n)
		}
	}
	return r
}

// run traces the new graph.
func (r *rebuilding) run(b *graph.Builder) {
	r.b = b
	for _, n := range r.g.Inputs { // whose order is that of a run's arguments
		r.node(n)
	}
	for _, n := range r.g.Nodes {
		if r.of[n.ID] == nil {
			r.node(n)
		}
	}
	for _, o := range r.g.Outputs {
		b.Output(o.Name, r.value(o.Value))
	}
	for _, u := range r.g.Updates {
		b.Update(r.value(graph.Value{N: u.State}), r.value(u.Value))
	}
}

// value is what v is in the new graph.
func (r *rebuilding) value(v graph.Value) graph.Value {
	if w, ok := r.env[v]; ok {
		return w
	}
	p := r.of[v.N.ID]
	if p == nil {
		r.node(v.N)
		return r.env[v]
	}
	first := p.made == nil
	if first {
		r.pile(p)
	}
	at := p.at[v.N]
	r.b.In(v.N.Scope, func() { r.env[v] = part(r.b, p.made[at.node], at.member, v.Shape()) })
	if first {
		for _, n := range r.behind[p] {
			r.node(n)
		}
	}
	return r.env[v]
}

// node copies n, unless that is done.
func (r *rebuilding) node(n *graph.Node) {
	if _, ok := r.env[graph.Value{N: n}]; ok {
		return
	}
	in := make([]graph.Value, len(n.In))
	for i, v := range n.In {
		in[i] = r.value(v)
	}
	if _, ok := r.env[graph.Value{N: n}]; ok { // it was behind a pile that it waited for
		return
	}
	m := r.b.Copy(n, in)
	for i := range n.Out {
		r.env[graph.Value{N: n, I: i}] = graph.Value{N: m, I: i}
	}
}

// pile makes the nodes of p.
func (r *rebuilding) pile(p *pile) {
	first := p.members[0]
	at := make(map[graph.Value]stacked, len(first.in)+len(first.nodes))
	for i, v := range first.in {
		all := make([]graph.Value, len(p.members))
		for j, c := range p.members {
			all[j] = r.value(c.in[i])
		}
		r.b.In(first.nodes[0].Scope, func() { at[v] = join(r.b, all) })
	}
	for _, n := range first.nodes {
		in := make([]stacked, len(n.In))
		for i, v := range n.In {
			in[i] = at[v]
		}
		r.b.In(n.Scope, func() { at[graph.Value{N: n}] = apply(r.b, n, len(p.members), in) })
		p.made = append(p.made, at[graph.Value{N: n}])
	}
}
