package joined

import (
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Ops for rows that are more than a product makes itself: what package quantized has
// norms make, of rows that are read from streams. Their results are codes and units.
var (
	// opRead8 takes streams, coefficients and gain.
	opRead8 = &graph.Op{Name: "joined.read", Attr: graph.NormAttr{}, Arity: 3, Results: 2, Infer: inferCodes}
	// opWritten takes streams, what is added to them, their matrix and its
	// coefficients, then those of reading, and gain. Its first result is the streams.
	opWritten = &graph.Op{
		Name: "joined.written", Attr: graph.NormAttr{}, Arity: 6, Results: 3, Alias: [][]int{{0}},
		Infer: func(n *graph.Node) []tensor.Type { return append([]tensor.Type{n.In[0].Type()}, inferCodes(n)...) },
	}
)

func inferCodes(n *graph.Node) []tensor.Type {
	s := n.In[0].Shape()
	return []tensor.Type{tensor.T(tensor.I8, s[0], quantized.Padded(s[2])), tensor.T(tensor.F32, s[0])}
}

// mostRows is how many rows these kernels take, a block each. Beyond them, blocks that
// have several rows save more than a launch.
const mostRows = 4096

// JoinRows is a pass that comes after quantized.Share: streams are written, read, normed
// and rounded to int8 by one kernel.
func JoinRows(g *graph.Graph) (*graph.Graph, error) {
	j := newJoining(g)
	for _, n := range g.Nodes {
		if n.Op == quantized.Norm {
			j.streams(n)
		}
	}
	if len(j.groups) == 0 {
		return g, nil
	}
	out, err := graph.Trace(j.rebuild)
	return out, errors.Wrap(err, "join rows")
}

// streams joins the norm n with what reads its rows from streams, and with what writes
// these where the coefficients of reading do not come of them.
func (j *joining) streams(n *graph.Node) {
	r := j.maker(n.In[0], opRead, n)
	if r == nil || !n.In[0].Type().Equal(r.Out[0]) || !regular(r.In[0]) || r.In[0].Dim(0) > mostRows || r.In[0].Dim(2) > maxNormed {
		return
	}
	g := &group{
		op: opRead8, attr: n.Attr, members: []*graph.Node{n, r}, in: []graph.Value{r.In[0], r.In[1], n.In[1]},
		results: []graph.Value{{N: n}, {N: n, I: 1}},
	}
	w := compile.Root(r.In[0]).N
	// A matrix of rows of at most 8 columns may be the streams themselves.
	if w.Op == opWrite && !j.taken[w] && r.In[0] == (graph.Value{N: w}) && r.In[0].Dim(2) > 8 && !depends(r.In[1], w) && !depends(n.In[1], w) {
		g.op, g.members = opWritten, append(g.members, w)
		g.in = append(append([]graph.Value{}, w.In...), r.In[1], n.In[1])
		g.results = append([]graph.Value{{N: w}}, g.results...)
	}
	j.add(g)
}

// depends reports whether v is computed of a result of n.
func depends(v graph.Value, n *graph.Node) bool {
	seen := map[*graph.Node]bool{}
	var on func(m *graph.Node) bool
	on = func(m *graph.Node) bool {
		if m == n {
			return true
		}
		if seen[m] || m.ID < n.ID { // what is before n does not depend on it
			return false
		}
		seen[m] = true
		for _, x := range m.In {
			if on(x.N) {
				return true
			}
		}
		return false
	}
	return on(v.N)
}

func readKernel() engine.Kernel {
	return engine.Kernel{
		Narrow: func(*graph.Node) (in, out []bool) { return []bool{true, false, false}, []bool{false, false} },
		Bind: func(c *engine.Call) error {
			s, none := c.Node.In[0].Shape(), driver.Pointer(0)
			return launch(c, rowsSource, "joined_rows", driver.Dim{X: s[0]}, 4*s[2], []any{
				int(read), c.In[0], c.In[1], c.In[2], none, 0, s[1], stepOf(c.Node.In[1], 1), epsilon(c.Node), flag(c.Node.In[0].Type()), none, 0,
				c.Out[0], c.Out[1], s[2], quantized.Padded(s[2]),
			})
		},
	}
}

func writtenKernel() engine.Kernel {
	return engine.Kernel{
		Narrow: func(*graph.Node) (in, out []bool) {
			return []bool{true, true, false, false, false, false}, []bool{true, false, false}
		},
		Bind: func(c *engine.Call) error {
			s, in := c.Node.In[0].Shape(), c.Node.In
			narrow := flag(in[0].Type()) | flag(in[1].Type())<<1 | flag(c.Node.Out[0])<<2
			return launch(c, rowsSource, fmt.Sprintf("joined_written_%d", s[1]), driver.Dim{X: s[0]}, 4*s[2], []any{
				c.In[0], c.In[1], c.In[2], c.In[3], c.In[4], c.In[5], c.Out[0], c.Out[1], c.Out[2],
				stepOf(in[2], 2), stepOf(in[3], 1), stepOf(in[4], 1), epsilon(c.Node), narrow, s[2], quantized.Padded(s[2]),
			})
		},
	}
}

func epsilon(n *graph.Node) float32 { return float32(n.Attr.(graph.NormAttr).Eps) }
