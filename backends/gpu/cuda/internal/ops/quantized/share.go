package quantized

import (
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
)

// far is from how many nodes on codes are not kept in memory beside x, as
// compile.Lower has it for what can be computed again: those of the forward pass lie
// far before those of the backward pass.
const far = 64

// Share has rows of x that are quantized by several nodes quantized once. The nodes
// come to read codes, and x is in memory no longer than others read it.
//
// Codes live from the first reader to the last. So would x without them, in two or
// four times the bytes: sharing takes memory only while others will read x too.
// The next reader does not share with one from which it and the last of these are far.
// What compile.Lower computes again for the backward pass is another x, whose readers
// share among themselves.
//
// One reader alone goes on to quantize for itself, unless x is a norm or a gate that
// only readers of codes want: these are quantized where they are computed.
func Share(g *graph.Graph) (*graph.Graph, error) {
	s := newSharing(g)
	for _, x := range s.order {
		s.share(x)
	}
	if len(s.of) == 0 {
		return g, nil
	}
	out, err := graph.Trace(s.rebuild)
	return out, errors.Wrap(err, "share quantized rows")
}

// group is readers that share codes of x.
type group struct {
	x       graph.Value
	readers []*graph.Node
	codes   []graph.Value // and units, once they are there
}

// sharing is the state of Share.
type sharing struct {
	g       *graph.Graph
	order   []graph.Value                 // what can be shared
	readers map[graph.Value][]*graph.Node // by x
	uses    map[graph.Value]int           // of x by anyone, views among them
	late    map[graph.Value]int           // the last node that reads x otherwise, by what x is a view of
	of      map[*graph.Node]*group        // of a reader
	made    map[*graph.Node]*group        // of a norm or gate that is quantized at once
}

func newSharing(g *graph.Graph) *sharing {
	s := &sharing{
		g: g, readers: map[graph.Value][]*graph.Node{}, uses: map[graph.Value]int{}, late: map[graph.Value]int{},
		of: map[*graph.Node]*group{}, made: map[*graph.Node]*group{},
	}
	for _, n := range g.Nodes {
		idle := n.Idle()
		for i, v := range n.In {
			s.uses[v]++
			switch {
			case i == 0 && reads(n):
				if s.readers[v] == nil {
					s.order = append(s.order, v)
				}
				s.readers[v] = append(s.readers[v], n)
			case !idle[i] && !n.Op.View:
				s.late[compile.Root(v)] = n.ID
			}
		}
	}
	for _, o := range g.Outputs {
		s.leaves(o.Value)
	}
	for _, u := range g.Updates {
		s.leaves(u.Value)
	}
	return s
}

// leaves notes that v is wanted after the last node.
func (s *sharing) leaves(v graph.Value) {
	s.uses[v]++
	s.late[compile.Root(v)] = len(s.g.Nodes)
}

// share makes groups of the readers of x.
func (s *sharing) share(x graph.Value) {
	all := s.readers[x]
	if makers[x.N.Op] != nil && s.uses[x] == len(all) {
		s.made[x.N] = s.group(x, all)
		return
	}
	root := compile.Root(x)
	kept := s.late[root]
	if root.N.IsState() || root.N.IsInput() {
		kept = len(s.g.Nodes)
	}
	from := 0
	for i := 1; i <= len(all); i++ {
		if i < len(all) && (all[i].ID-all[i-1].ID < far || kept-all[i-1].ID < far) {
			continue
		}
		if i-from > 1 {
			s.group(x, all[from:i])
		}
		from = i
	}
}

func (s *sharing) group(x graph.Value, readers []*graph.Node) *group {
	c := &group{x: x, readers: readers}
	for _, n := range readers {
		s.of[n] = c
	}
	return c
}

// rebuild copies the graph with codes where they are made or wanted first.
func (s *sharing) rebuild(b *graph.Builder) {
	env := map[graph.Value]graph.Value{}
	all := func(vs []graph.Value) []graph.Value {
		out := make([]graph.Value, len(vs))
		for i, v := range vs {
			out[i] = env[v]
		}
		return out
	}
	for _, n := range s.g.Nodes {
		b.In(n.Scope, func() {
			var made []graph.Value
			switch c := s.of[n]; {
			case s.made[n] != nil:
				s.made[n].codes = b.Apply(makers[n.Op], n.Attr, all(n.In)...)
				return
			case c != nil:
				if c.codes == nil {
					c.codes = b.Apply(Rows, nil, env[c.x])
				}
				a := Reader{n.Attr.(graph.LinearAttr), slices.Clone(n.Out)}
				made = b.Apply(Of(n.Op), a, append(slices.Clone(c.codes), all(operands(n))...)...)
			default:
				m := b.Copy(n, all(n.In))
				for i := range m.Out {
					made = append(made, graph.Value{N: m, I: i})
				}
			}
			for i, v := range made {
				env[graph.Value{N: n, I: i}] = v
			}
		})
	}
	for _, o := range s.g.Outputs {
		b.Output(o.Name, env[o.Value])
	}
	for _, u := range s.g.Updates {
		b.Update(env[graph.Value{N: u.State}], env[u.Value])
	}
}
