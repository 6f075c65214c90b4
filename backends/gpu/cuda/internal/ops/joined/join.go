package joined

import (
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/linear"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Join replaces groups of nodes by joined ones. It is a pass of engine.Config. A
// group is never made where a node outside would read one of its inner values, or
// where one of its operands would depend on its results.
func Join(g *graph.Graph) (*graph.Graph, error) {
	j := newJoining(g)
	for _, n := range g.Nodes {
		if !j.taken[n] && n.Op == opCodes {
			j.product(n)
		}
	}
	for _, n := range g.Nodes {
		if !j.taken[n] && n.Op == opRoPE {
			j.cache(n)
		}
	}
	if len(j.groups) == 0 {
		return g, nil
	}
	out, err := graph.Trace(j.rebuild)
	return out, errors.Wrap(err, "join")
}

var (
	opCodes    = graph.Lookup("codebookmatmul")
	opRMSNorm  = graph.Lookup("rmsnorm")
	opRead     = graph.Lookup("streamread")
	opWrite    = graph.Lookup("streamwrite")
	opGather   = graph.Lookup("gather")
	opSwiGLU   = graph.Lookup("swiglu")
	opAdd      = graph.Lookup("add")
	opRoPE     = graph.Lookup("rope")
	opUpdateAt = graph.Lookup("updateat")
)

// group is some nodes that become one.
type group struct {
	op      *graph.Op
	attr    any
	members []*graph.Node // the last one says where the joined node stands
	in      []graph.Value
	results []graph.Value // what the results of the joined node stand for
}

// joining is the state of Join.
type joining struct {
	g       *graph.Graph
	readers map[graph.Value][]*graph.Node // of values behind views; nil is a reader outside of the graph
	taken   map[*graph.Node]bool
	groups  []*group
}

func newJoining(g *graph.Graph) *joining {
	j := &joining{g: g, readers: map[graph.Value][]*graph.Node{}, taken: map[*graph.Node]bool{}}
	note := func(v graph.Value, n *graph.Node) {
		v = compile.Root(v)
		if !slices.Contains(j.readers[v], n) {
			j.readers[v] = append(j.readers[v], n)
		}
	}
	for _, n := range g.Nodes {
		if !n.Op.View {
			for _, v := range n.In {
				note(v, n)
			}
		}
	}
	for _, o := range g.Outputs {
		note(o.Value, nil)
	}
	for _, u := range g.Updates {
		note(u.Value, nil)
	}
	return j
}

// reader is the one node that reads v, if it is of that op.
func (j *joining) reader(v graph.Value, op *graph.Op) *graph.Node {
	if all := j.readers[v]; len(all) == 1 && all[0] != nil && all[0].Op == op && !j.taken[all[0]] {
		return all[0]
	}
	return nil
}

// maker is the node of that op that makes what v is a view of, if nobody but the
// given ones reads it.
func (j *joining) maker(v graph.Value, op *graph.Op, by ...*graph.Node) *graph.Node {
	v = compile.Root(v)
	if v.N.Op != op || j.taken[v.N] {
		return nil
	}
	for _, n := range j.readers[v] {
		if !slices.Contains(by, n) {
			return nil
		}
	}
	return v.N
}

// leaf reports whether v depends on nothing that a run computes.
func leaf(v graph.Value) bool { return len(compile.Root(v).N.In) == 0 }

func (j *joining) add(g *group) {
	slices.SortFunc(g.members, func(a, b *graph.Node) int { return a.ID - b.ID })
	for _, n := range g.members {
		j.taken[n] = true
	}
	j.groups = append(j.groups, g)
}

// maxRow is how many columns a row may have that is made in shared memory.
const maxRow = maxShared / 4

// joinable reports whether n multiplies a few rows of int8 by a weight that the
// kernels of few rows take, which does not depend on what a run computes.
func joinable(n *graph.Node) bool {
	a, x, codes := n.Attr.(graph.LinearAttr), n.In[0].Shape(), n.In[1].Type()
	w := linear.WeightOf(codes, n.In[2].Shape(), a.Levels)
	return a.ActBits == 8 && x[0] <= linear.FewRows && x[1] <= maxRow && w.Few() && leaf(n.In[1]) && leaf(n.In[2])
}

// alike reports whether two products can be of one kernel.
func alike(a, b *graph.Node) bool {
	x, y := a.Attr.(graph.LinearAttr), b.Attr.(graph.LinearAttr)
	return x.ActBits == y.ActBits && slices.Equal(x.Levels, y.Levels) && a.In[1].Type().DType == b.In[1].Type().DType &&
		a.In[0].Type().Equal(b.In[0].Type()) && a.In[2].Dim(1) == b.In[2].Dim(1)
}

// siblings are n and the products after it that can join it.
func (j *joining) siblings(n *graph.Node) []*graph.Node {
	all := []*graph.Node{n}
	for _, m := range j.readers[compile.Root(n.In[0])] {
		if m != nil && m != n && m.Op == opCodes && !j.taken[m] && compile.Root(m.In[0]) == compile.Root(n.In[0]) &&
			alike(n, m) && joinable(m) && len(all) < maxWeights {
			all = append(all, m)
		}
	}
	return all
}

// product joins n with its siblings, what makes their rows, and what reads their
// results.
func (j *joining) product(n *graph.Node) {
	if !joinable(n) {
		return
	}
	all := j.siblings(n)
	p := &product{Weights: len(all), Levels: n.Attr.(graph.LinearAttr).Levels}
	g := &group{op: opProduct, attr: p, members: slices.Clone(all)}
	rows := j.source(g, p, all)
	for _, m := range all {
		g.results = append(g.results, graph.Value{N: m})
	}
	before, after := j.end(g, p, all)
	g.in = append(before, rows...)
	for _, m := range all {
		g.in = append(g.in, m.In[1], m.In[2])
	}
	g.in = append(g.in, after...)
	for _, v := range g.results {
		p.out = append(p.out, v.Type())
	}
	if len(g.members) > 1 { // a product by itself is that of ops/linear
		j.add(g)
	}
}

// source joins what makes the rows, and returns of what.
func (j *joining) source(g *group, p *product, all []*graph.Node) []graph.Value {
	x := all[0].In[0]
	k := x.Dim(1)
	if n := j.maker(x, opSwiGLU, all...); n != nil && k%4 == 0 {
		p.From, g.members = gated, append(g.members, n)
		return n.In
	}
	by := all
	gather := j.maker(x, opGather, all...)
	if gather != nil && gather.Out[0].Equal(x.Type()) {
		x, by = gather.In[0], []*graph.Node{gather}
	} else {
		gather = nil
	}
	in := j.norm(g, p, x, by)
	switch {
	case in == nil:
		return all[0].In[:1]
	case gather == nil:
		return in
	}
	p.Picked, g.members = true, append(g.members, gather)
	return append([]graph.Value{gather.In[1]}, in...)
}

// norm joins the norm that makes x, and the streams that it is read from, if nobody
// but some nodes reads x.
func (j *joining) norm(g *group, p *product, x graph.Value, by []*graph.Node) []graph.Value {
	k := x.Dim(-1)
	n := j.maker(x, opRMSNorm, by...)
	if n == nil || n.Out[0].Shape[len(n.Out[0].Shape)-1] != k || k > maxNormed {
		return nil
	}
	p.From, p.Eps, g.members = normed, n.Attr.(graph.NormAttr).Eps, append(g.members, n)
	if m := j.maker(n.In[0], opRead, n); m != nil && regular(m.In[0]) && m.Out[0].Shape[1] == k {
		p.From, g.members = read, append(g.members, m)
		return []graph.Value{m.In[0], m.In[1], n.In[1]}
	}
	return n.In
}

// maxNormed is how many columns a row may have that the kernel norms: it has as many
// threads as rmsnorm takes for those.
const maxNormed = 32 * threads

// regular reports whether streams are of a number that the kernel takes.
func regular(s graph.Value) bool {
	n := s.Dim(1)
	return s.Dim(2)%4 == 0 && (n == 1 || n == 2 || n == 4 || n == 8)
}

// end joins what reads the results, and returns the operands before all others, and
// after them. Results become those of what is joined.
func (j *joining) end(g *group, p *product, all []*graph.Node) (before, after []graph.Value) {
	if len(all) == 3 {
		return j.heads(g, p, all), nil
	}
	y := graph.Value{N: all[0]}
	if len(all) > 1 {
		return nil, nil
	}
	if n := j.reader(y, opWrite); n != nil && n.In[1].Type().Equal(y.Type()) && regular(n.In[0]) &&
		compile.Root(n.In[0]) != y && compile.Root(n.In[2]) != y && compile.Root(n.In[3]) != y {
		p.To = mixed
		j.extend(g, n)
		return nil, []graph.Value{n.In[0], n.In[2], n.In[3]}
	}
	if n := j.reader(y, opAdd); n != nil && n.In[0].Type().Equal(n.In[1].Type()) && n.In[0] != n.In[1] {
		x := n.In[0]
		if compile.Root(x) == y {
			x = n.In[1]
		}
		if compile.Root(x) != y {
			p.To = added
			j.extend(g, n)
			return nil, []graph.Value{x}
		}
	}
	return nil, nil
}

// extend makes the result of a single product that of n.
func (j *joining) extend(g *group, n *graph.Node) {
	g.members = append(g.members, n)
	g.results = []graph.Value{{N: n}}
}

// heads joins the rotary embeddings and the caches of a query, a key and a value, in
// any order, and puts all in theirs.
func (j *joining) heads(g *group, p *product, all []*graph.Node) []graph.Value {
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		q, k, v := all[order[0]], all[order[1]], all[order[2]]
		c := j.cached(graph.Value{N: q}, graph.Value{N: k}, graph.Value{N: v})
		if c == nil || c.results[0].Dim(0)*c.results[0].Dim(1) != q.Out[0].Shape[0] {
			continue
		}
		all[0], all[1], all[2] = q, k, v
		p.To, p.RoPE, g.op = heads, c.turns, opHeads
		g.members, g.results = append(g.members, c.members...), c.results
		return c.in
	}
	return nil
}

// rebuild copies the graph with each group as a node at the place of its last member.
// Views are copied where they are wanted: those inside of a group are not.
func (j *joining) rebuild(b *graph.Builder) {
	c := copier{b: b, env: map[graph.Value]graph.Value{}, group: map[*graph.Node]*group{}}
	for _, g := range j.groups {
		for _, n := range g.members {
			c.group[n] = g
		}
	}
	for _, n := range j.g.Nodes {
		if n.Op.View {
			continue
		}
		if g := c.group[n]; g == nil || g.members[len(g.members)-1] == n {
			c.node(n)
		}
	}
	for _, o := range j.g.Outputs {
		b.Output(o.Name, c.value(o.Value))
	}
	for _, u := range j.g.Updates {
		b.Update(c.value(graph.Value{N: u.State}), c.value(u.Value))
	}
}

// copier copies nodes with what they depend on, each once.
type copier struct {
	b     *graph.Builder
	env   map[graph.Value]graph.Value
	group map[*graph.Node]*group
}

func (c copier) value(v graph.Value) graph.Value {
	if w, ok := c.env[v]; ok {
		return w
	}
	c.node(v.N)
	return c.env[v]
}

func (c copier) values(vs []graph.Value) []graph.Value {
	out := make([]graph.Value, len(vs))
	for i, v := range vs {
		out[i] = c.value(v)
	}
	return out
}

// node copies n, or makes the node of its group.
func (c copier) node(n *graph.Node) {
	if g := c.group[n]; g != nil {
		if _, ok := c.env[g.results[0]]; ok {
			return
		}
		in := c.values(g.in)
		c.b.In(g.results[0].N.Scope, func() {
			for i, v := range c.b.Apply(g.op, g.attr, in...) {
				c.env[g.results[i]] = v
			}
		})
		return
	}
	if _, ok := c.env[graph.Value{N: n}]; ok {
		return
	}
	m := c.b.Copy(n, c.values(n.In))
	for i := range n.Out {
		c.env[graph.Value{N: n, I: i}] = graph.Value{N: m, I: i}
	}
}

// types are those of values.
func types(vs []graph.Value) (all []tensor.Type) {
	for _, v := range vs {
		all = append(all, v.Type())
	}
	return all
}
