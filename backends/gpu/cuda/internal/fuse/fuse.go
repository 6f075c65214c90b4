package fuse

import (
	"cmp"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
)

// Limits of a chain. A single node may be beyond them: a concat of many parts.
const (
	maxMembers  = 48
	maxSize     = 160 // instructions
	maxPointers = 24
	maxLoops    = 4
	small       = 64 << 10 // bytes whose life does not count
)

// Fuse replaces chains of primitives by single nodes. A chain stands where its
// last node stood; all else keeps its order, and nothing that a chain computes is
// wanted before. That makes it impossible for a chain to wait for itself.
//
// Chains grow along edges: a node is joined with the chains of its operands where
// the whole is one program, costs no more than its parts (program.cost), and does
// not keep large values alive for longer than what it saves lives.
func Fuse(g *graph.Graph) (*graph.Graph, error) {
	f := newFusion(g)
	f.grow()
	return f.done()
}

// grow joins chains along all edges, in order.
func (f *fusion) grow() {
	for _, n := range f.g.Nodes {
		if f.chains[n] == nil {
			continue
		}
		for _, v := range f.reads[n] {
			if f.chains[v.N] != nil && f.chains[v.N] != f.chains[n] {
				f.join(f.chains[v.N], f.chains[n])
			}
		}
	}
}

// done returns the graph of chains.
func (f *fusion) done() (*graph.Graph, error) {
	for _, c := range f.all() {
		if c.program == nil {
			return nil, errors.AssertionFailedf("%s %v is no chain by itself", c.members[0].Op.Name, c.members[0].Out)
		}
	}
	out, err := graph.Trace(f.rebuild)
	return out, errors.Wrap(err, "fuse")
}

// chain is some nodes that become one, in order.
type chain struct {
	members []*graph.Node
	results []graph.Value // that others read

	program  *program
	operands []graph.Value
	cost     int
}

// place is where the chain stands: the number of its last node.
func (c *chain) place() int { return c.members[len(c.members)-1].ID }

func (c *chain) has(n *graph.Node) bool { return slices.Contains(c.members, n) }

// fusion is the state of Fuse.
type fusion struct {
	g      *graph.Graph
	chains map[*graph.Node]*chain        // of the primitives that become part of one
	reads  map[*graph.Node][]graph.Value // what a node reads, behind views and what is free
	users  map[graph.Value][]*graph.Node // the other way round
	leaves map[graph.Value]bool          // results and new states of the graph
	ends   map[*graph.Node]int           // of a state that is updated: where
	news   map[graph.Value]graph.Value   // and by what
}

func newFusion(g *graph.Graph) *fusion {
	f := &fusion{
		g: g, chains: map[*graph.Node]*chain{}, reads: map[*graph.Node][]graph.Value{},
		users: map[graph.Value][]*graph.Node{}, leaves: map[graph.Value]bool{}, ends: map[*graph.Node]int{}, news: map[graph.Value]graph.Value{},
	}
	for _, o := range g.Outputs {
		f.leaves[source(o.Value)] = true
	}
	for _, u := range g.Updates {
		f.leaves[source(u.Value)] = true
		f.ends[u.State] = source(u.Value).N.ID
		f.news[graph.Value{N: u.State}] = source(u.Value)
	}
	stored := f.stored()
	for _, n := range g.Nodes {
		if views[n.Op.Name] || free(n) && !stored[n] {
			continue
		}
		takes := Takes(n)
		for _, v := range n.In {
			f.read(n, v, takes)
		}
		if takes {
			f.chains[n] = &chain{members: []*graph.Node{n}}
		}
	}
	for _, c := range f.all() {
		c.results = f.resultsOf(c.members)
		f.compile(c, 1<<30)
	}
	return f
}

// stored finds the nodes that would be free, but are wanted in memory.
func (f *fusion) stored() map[*graph.Node]bool {
	set := map[*graph.Node]bool{}
	for v := range f.leaves {
		set[v.N] = true
	}
	for _, n := range f.g.Nodes {
		if views[n.Op.Name] || Takes(n) {
			continue
		}
		for _, v := range n.In {
			set[source(v).N] = true
		}
	}
	return set
}

// read notes that n reads v. A chain computes again what is free.
func (f *fusion) read(n *graph.Node, v graph.Value, again bool) {
	v = source(v)
	if again && free(v.N) {
		for _, x := range v.N.In {
			f.read(n, x, again)
		}
		return
	}
	if !slices.Contains(f.reads[n], v) {
		f.reads[n] = append(f.reads[n], v)
		f.users[v] = append(f.users[v], n)
	}
}

// all returns the chains in order.
func (f *fusion) all() []*chain {
	var all []*chain
	for _, n := range f.g.Nodes {
		if c := f.chains[n]; c != nil && c.members[0] == n {
			all = append(all, c)
		}
	}
	return all
}

// resultsOf are the values of members that others read.
func (f *fusion) resultsOf(members []*graph.Node) []graph.Value {
	var out []graph.Value
	for _, n := range members {
		v := graph.Value{N: n}
		outside := func(u *graph.Node) bool { return !slices.Contains(members, u) }
		if f.leaves[v] || slices.ContainsFunc(f.users[v], outside) {
			out = append(out, v)
		}
	}
	if len(out) == 0 { // nobody reads it; it is computed all the same
		out = append(out, graph.Value{N: members[len(members)-1]})
	}
	return out
}

// compile makes the program of a chain, and reports whether there is one.
func (f *fusion) compile(c *chain, limit int) bool {
	p, operands, err := lower(c.members, c.results, limit)
	if err != nil || !p.allocate() {
		return false
	}
	c.program, c.operands, c.cost = p, operands, p.cost(operands, c.results)
	return true
}

// join makes one chain of a and b, which reads it, if that pays.
func (f *fusion) join(a, b *chain) bool {
	parts := f.between(a, b)
	if parts == nil {
		return false
	}
	c, cost := &chain{}, 0
	for _, p := range parts {
		c.members = append(c.members, p.members...)
		cost += p.cost
	}
	slices.SortFunc(c.members, func(x, y *graph.Node) int { return cmp.Compare(x.ID, y.ID) })
	if len(c.members) > maxMembers {
		return false
	}
	c.results = f.resultsOf(c.members)
	if !f.compile(c, maxSize) || c.cost > cost || len(c.operands)+len(c.results) > maxPointers || len(c.program.loops) > maxLoops {
		return false
	}
	for _, p := range parts {
		if !f.lasts(p, c) || f.inPlace(p) > 0 && f.inPlace(c) < f.inPlace(p) {
			return false
		}
	}
	for _, n := range c.members {
		f.chains[n] = c
	}
	return true
}

// between returns a, b and the chains that read a result of them before b stands:
// the whole stands at b's place, and nobody may want its results before.
func (f *fusion) between(a, b *chain) []*chain {
	parts, place := []*chain{a, b}, max(a.place(), b.place())
	for i := 0; i < len(parts); i++ {
		for _, v := range parts[i].results {
			for _, u := range f.users[v] {
				c, at := f.chains[u], u.ID
				if c != nil {
					at = c.place()
				}
				switch {
				case c != nil && slices.Contains(parts, c), at > place:
				case c == nil || len(parts) > maxMembers:
					return nil
				default:
					parts = append(parts, c)
				}
			}
		}
	}
	return parts
}

// lasts reports whether p may be computed at the place of c, of which it is a
// part: between the two nothing but primitives is, or what p reads is alive there
// anyway, but for less than what need not be stored. A state that is updated
// between must be read before, or the update needs a copy of it.
func (f *fusion) lasts(p, c *chain) bool {
	from, to := p.place(), c.place()
	for _, v := range p.operands {
		if end, ok := f.ends[v.N]; ok && from < end && end < to && !c.has(f.g.Nodes[end]) {
			return false
		}
	}
	if !f.crosses(from, to) {
		return true
	}
	longer := -small
	for _, v := range p.operands {
		if !v.N.IsState() && !v.N.IsInput() && !f.leaves[v] && !f.lives(v, p, to) {
			longer += v.Type().Bytes()
		}
	}
	for _, v := range p.results {
		if !slices.Contains(c.results, v) {
			longer -= v.Type().Bytes()
		}
	}
	return longer <= 0
}

// inPlace counts the states that the chain can write its new values over.
func (f *fusion) inPlace(c *chain) (count int) {
	for i, v := range c.results {
		for _, k := range c.program.alias[i] {
			if f.news[c.operands[k]] == v {
				count++
			}
		}
	}
	return count
}

// crosses reports whether a node that is no primitive lies between two places.
func (f *fusion) crosses(from, to int) bool {
	for _, n := range f.g.Nodes[from:to] {
		if f.chains[n] == nil && !views[n.Op.Name] && !free(n) && !n.IsState() && !n.IsInput() {
			return true
		}
	}
	return false
}

// lives reports whether anyone but p reads v as late as at a place.
func (f *fusion) lives(v graph.Value, p *chain, place int) bool {
	for _, u := range f.users[v] {
		at := u.ID
		if c := f.chains[u]; c != nil {
			at = c.place()
		}
		if !p.has(u) && at >= place {
			return true
		}
	}
	return false
}

// rebuild copies the graph with chains as single nodes. Views are copied where
// they are wanted first: what they are of may come later than it did.
func (f *fusion) rebuild(b *graph.Builder) {
	env := map[graph.Value]graph.Value{}
	var value func(v graph.Value) graph.Value
	value = func(v graph.Value) graph.Value {
		w, ok := env[v]
		switch {
		case ok || !views[v.N.Op.Name]:
		case v.N.Op.Name == "reshape":
			w = graph.Value{N: b.Copy(v.N, []graph.Value{value(v.N.In[0])})}
		default: // has meant nothing since gradients were taken
			w = value(v.N.In[0])
		}
		env[v] = w
		return w
	}
	all := func(vs []graph.Value) []graph.Value {
		out := make([]graph.Value, len(vs))
		for i, v := range vs {
			out[i] = value(v)
		}
		return out
	}
	for _, n := range f.g.Nodes {
		c := f.chains[n]
		switch {
		case c != nil && c.place() == n.ID:
			b.In(n.Scope, func() {
				for i, v := range b.Apply(c.attr().op(), c.attr(), all(c.operands)...) {
					env[c.results[i]] = v
				}
			})
		case c != nil, views[n.Op.Name], free(n):
		default:
			m := b.Copy(n, all(n.In))
			for i := range n.Out {
				env[graph.Value{N: n, I: i}] = graph.Value{N: m, I: i}
			}
		}
	}
	for _, o := range f.g.Outputs {
		b.Output(o.Name, value(o.Value))
	}
	for _, u := range f.g.Updates {
		b.Update(value(graph.Value{N: u.State}), value(u.Value))
	}
}

// attr is what stands for the chain in the graph.
func (c *chain) attr() *Chain {
	a := &Chain{p: c.program}
	for _, n := range c.members {
		a.names = append(a.names, n.Op.Name)
	}
	for _, v := range c.operands {
		a.in = append(a.in, v.Type())
	}
	for _, v := range c.results {
		a.out = append(a.out, v.Type())
	}
	return a
}
