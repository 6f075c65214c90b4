package stack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// island is a computation: nodes in order, none of which is read from a product
// outside of it.
type island struct {
	nodes []*graph.Node
	in    []graph.Value // what they read that is not theirs, in the order of its first reading
}

// finder finds the computations of a graph. Its slices are by the numbers of nodes.
type finder struct {
	g     *graph.Graph
	users [][]*graph.Node
	kept  []bool // read by the graph's results or updates
	inner []bool
	taken []*island
}

func newFinder(g *graph.Graph) *finder {
	n := len(g.Nodes)
	f := &finder{g: g, users: make([][]*graph.Node, n), kept: make([]bool, n), inner: make([]bool, n), taken: make([]*island, n)}
	for _, n := range g.Nodes {
		for _, v := range n.In {
			f.users[v.N.ID] = append(f.users[v.N.ID], n)
		}
	}
	for _, o := range g.Outputs {
		f.kept[o.Value.N.ID] = true
	}
	for _, u := range g.Updates {
		f.kept[u.Value.N.ID] = true
	}
	return f
}

var opMatMul = graph.Lookup("matmul")

// seed reports whether n is a product of two matrices.
func seed(n *graph.Node) bool {
	return n.Op == opMatMul && len(n.Out[0].Shape) == 2 && n.In[1].Type().DType == tensor.F32
}

// islands finds all computations, in the order of their first nodes.
func (f *finder) islands() []*island {
	f.mark()
	var all []*island
	for _, n := range f.g.Nodes {
		if f.inner[n.ID] && f.taken[n.ID] == nil {
			c := f.flood(n)
			f.absorb(c)
			slices.SortFunc(c.nodes, func(x, y *graph.Node) int { return x.ID - y.ID })
			c.in = f.operands(c)
			all = append(all, c)
		}
	}
	return all
}

// mark finds the inner nodes.
func (f *finder) mark() {
	below := make([]bool, len(f.g.Nodes))
	for _, n := range f.g.Nodes {
		below[n.ID] = seed(n) || slices.ContainsFunc(n.In, func(v graph.Value) bool { return below[v.N.ID] })
	}
	above := make([]bool, len(f.g.Nodes))
	for _, n := range slices.Backward(f.g.Nodes) {
		above[n.ID] = seed(n) || slices.ContainsFunc(f.users[n.ID], func(u *graph.Node) bool { return above[u.ID] })
		f.inner[n.ID] = above[n.ID] && below[n.ID]
	}
}

// flood makes a computation of n and all inner nodes that edges join with it.
func (f *finder) flood(n *graph.Node) *island {
	c := &island{nodes: []*graph.Node{n}}
	f.taken[n.ID] = c
	add := func(m *graph.Node) {
		if f.inner[m.ID] && f.taken[m.ID] == nil {
			f.taken[m.ID] = c
			c.nodes = append(c.nodes, m)
		}
	}
	for i := 0; i < len(c.nodes); i++ {
		for _, v := range c.nodes[i].In {
			add(v.N)
		}
		for _, u := range f.users[c.nodes[i].ID] {
			add(u)
		}
	}
	return c
}

// operands are the values from outside that the nodes of c read.
func (f *finder) operands(c *island) []graph.Value {
	var in []graph.Value
	for _, n := range c.nodes {
		for _, v := range n.In {
			if f.taken[v.N.ID] != c && !slices.Contains(in, v) {
				in = append(in, v)
			}
		}
	}
	return in
}

// maxAbsorbed bounds the nodes before a computation that it may take in.
const maxAbsorbed = 32

// absorb takes in nodes that only c reads, the last ones first, up to where the fewest
// bytes cross into it: what makes a matrix of two is left outside, and a norm that
// the matrix is divided by is taken in, so that it is a sum over the stack.
func (f *finder) absorb(c *island) {
	in := f.operands(c)
	core, best, least := len(c.nodes), len(c.nodes), bytesOf(in)
	for len(c.nodes) < core+maxAbsorbed {
		i := f.last(c, in)
		if i < 0 {
			break
		}
		n := in[i].N
		f.taken[n.ID] = c
		c.nodes = append(c.nodes, n)
		in = slices.DeleteFunc(in, func(v graph.Value) bool { return v.N == n })
		for _, v := range n.In {
			if f.taken[v.N.ID] != c && !slices.Contains(in, v) {
				in = append(in, v)
			}
		}
		if b := bytesOf(in); b <= least {
			best, least = len(c.nodes), b
		}
	}
	for _, n := range c.nodes[best:] {
		f.taken[n.ID] = nil
	}
	c.nodes = c.nodes[:best]
}

// last is the place of the latest node in a list of operands that c can absorb, or -1.
func (f *finder) last(c *island, in []graph.Value) int {
	best := -1
	for i, v := range in {
		n := v.N
		alone := !f.kept[n.ID] && !slices.ContainsFunc(f.users[n.ID], func(u *graph.Node) bool { return f.taken[u.ID] != c })
		if alone && len(n.In) > 0 && stackable(n) && (best < 0 || n.ID > in[best].N.ID) {
			best = i
		}
	}
	return best
}

// bytesOf is the size of values, without numbers.
func bytesOf(vs []graph.Value) (bytes int) {
	for _, v := range vs {
		if v.Type().Shape.Numel() > 1 {
			bytes += v.Type().Bytes()
		}
	}
	return bytes
}

// class is computations that are equal but for their operands.
type class []*island

// classes groups computations by what they compute, in the order of their first
// members. Those that cannot be stacked are in none.
func (f *finder) classes(all []*island) []class {
	var classes []class
	place := map[string]int{}
	for _, c := range all {
		if !f.whole(c) {
			continue
		}
		key := c.signature()
		k, ok := place[key]
		if !ok {
			k = len(classes)
			place[key] = k
			classes = append(classes, nil)
		}
		classes[k] = append(classes[k], c)
	}
	return classes
}

// whole reports whether all of c can act on a stack: its ops have a form for that, and
// what crosses its border is f32, as concat and slice ask for.
func (f *finder) whole(c *island) bool {
	for _, v := range c.in {
		if v.Type().DType != tensor.F32 {
			return false
		}
	}
	for _, n := range c.nodes {
		if !stackable(n) || n.Out[0].DType != tensor.F32 && f.leaves(c, n) {
			return false
		}
	}
	return true
}

// leaves reports whether n is read from outside of c.
func (f *finder) leaves(c *island, n *graph.Node) bool {
	return f.kept[n.ID] || slices.ContainsFunc(f.users[n.ID], func(u *graph.Node) bool { return f.taken[u.ID] != c })
}

// signature says what c computes, of operands that are known by their types and
// places alone.
func (c *island) signature() string {
	var s strings.Builder
	at := make(map[graph.Value]int, len(c.nodes)+len(c.in))
	for i, v := range c.in {
		at[v] = i
		fmt.Fprintf(&s, "%v ", v.Type())
	}
	for i, n := range c.nodes {
		at[graph.Value{N: n}] = len(c.in) + i
		s.WriteString(n.Op.Name)
		if n.Attr != nil {
			fmt.Fprintf(&s, "%v", n.Attr)
		}
		for _, v := range n.In {
			fmt.Fprintf(&s, " %d", at[v])
		}
		s.WriteByte('\n')
	}
	return s.String()
}
