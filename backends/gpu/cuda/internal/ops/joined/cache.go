package joined

import (
	"reflect"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/attention"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// appended is the attribute of a node that turns queries and keys by their positions
// and writes keys and values into the caches, where the products that made them are
// not joined with it. Its operands are the caches of keys and values, the positions,
// query, key and value.
type appended struct {
	RoPE graph.RoPEAttr

	out []tensor.Type
}

var opCache = &graph.Op{
	Name: "joined.cache", Attr: (*appended)(nil), Arity: 6, Results: 3, Alias: [][]int{{3}, {0}, {1}},
	Infer: func(n *graph.Node) []tensor.Type { return n.Attr.(*appended).out },
}

// cached is what becomes of a query, a key and a value.
type cached struct {
	turns   graph.RoPEAttr
	members []*graph.Node
	in      []graph.Value // the caches and the positions
	results []graph.Value // the query, and the caches
}

// cached follows q, k and v into the caches, or returns nil where something else
// becomes of them.
func (j *joining) cached(q, k, v graph.Value) *cached {
	turnQ, turnK, putV := j.reader(q, opRoPE), j.reader(k, opRoPE), j.reader(v, opUpdateAt)
	if turnQ == nil || turnK == nil || turnQ == turnK || putV == nil || !sameTurns(turnQ, turnK) {
		return nil
	}
	putK := j.reader(graph.Value{N: turnK}, opUpdateAt)
	if putK == nil || putK == putV || putK.In[0] == putV.In[0] {
		return nil
	}
	pos, rows := turnQ.In[1], turnK.Out[0].Shape
	if !leaf(pos) || !into(putK, rows, pos) || !into(putV, rows, pos) || putK.In[0].Dim(1) != putV.In[0].Dim(1) {
		return nil
	}
	return &cached{
		turns: turnQ.Attr.(graph.RoPEAttr), members: []*graph.Node{turnQ, turnK, putK, putV},
		in:      []graph.Value{putK.In[0], putV.In[0], pos},
		results: []graph.Value{{N: turnQ}, {N: putK}, {N: putV}},
	}
}

// sameTurns reports whether two nodes turn as many tokens and elements of a head by the
// same angles.
func sameTurns(a, b *graph.Node) bool {
	s, t := a.Out[0].Shape, b.Out[0].Shape
	return reflect.DeepEqual(a.Attr, b.Attr) && compile.Root(a.In[1]) == compile.Root(b.In[1]) && s[1] == t[1] && s[3] == t[3]
}

// into reports whether n writes rows of a shape [B,T,H,D] at pos into a cache
// [B,limit,H,D] that is a state.
func into(n *graph.Node, s tensor.Shape, pos graph.Value) bool {
	c := n.In[0].Type()
	return n.Attr.(graph.AxisAttr).Axis == 1 && n.In[0].N.IsState() && n.In[1].Shape().Equal(s) && compile.Root(n.In[2]) == compile.Root(pos) &&
		len(c.Shape) == 4 && (c.DType == tensor.F32 || c.DType == tensor.F16)
}

// cache joins what turns a query and a key, of which turnQ is the first, and what
// writes the key and a value into the caches.
func (j *joining) cache(turnQ *graph.Node) {
	for _, putK := range j.updates() {
		turnK := compile.Root(putK.In[1]).N
		if turnK == turnQ || turnK.Op != opRoPE || turnK.Scope != turnQ.Scope {
			continue
		}
		for _, putV := range j.updates() {
			if putV == putK || putV.Scope != putK.Scope {
				continue
			}
			c := j.cached(compile.Root(turnQ.In[0]), compile.Root(turnK.In[0]), compile.Root(putV.In[1]))
			if c == nil {
				continue
			}
			in := append(c.in, turnQ.In[0], turnK.In[0], putV.In[1])
			if before(in, c.members) {
				j.add(&group{op: opCache, attr: &appended{RoPE: c.turns, out: types(c.results)}, members: c.members, in: in, results: c.results})
				return
			}
		}
	}
}

// updates lists the nodes that write into caches and are in no group.
func (j *joining) updates() (all []*graph.Node) {
	for _, n := range j.g.Nodes {
		if n.Op == opUpdateAt && !j.taken[n] {
			all = append(all, n)
		}
	}
	return all
}

// before reports whether all values are there before the first of some nodes: then
// none depends on them.
func before(vs []graph.Value, nodes []*graph.Node) bool {
	for _, v := range vs {
		root := compile.Root(v).N
		for _, n := range nodes {
			if len(root.In) > 0 && root.ID >= n.ID {
				return false
			}
		}
	}
	return true
}

// cacheKernel has a thread for one pair of a head, or for four that are neighbors
// where heads are of a multiple of 8 elements.
func cacheKernel() engine.Kernel {
	return engine.Kernel{
		Narrow: func(*graph.Node) (in, out []bool) {
			return []bool{false, false, false, true, true, true}, []bool{true, false, false}
		},
		Bind: func(c *engine.Call) error {
			q, k := c.Node.Out[0].Shape, c.Node.Out[1]
			turns, err := c.Constant(attention.Turns(c.Node.Attr.(*appended).RoPE, q[3]))
			if err != nil {
				return err
			}
			name, size := "joined_cache_pairs", 2
			if q[3]%8 == 0 {
				name, size = "joined_cache_octets", 8
			}
			f, err := c.Device.Function(cacheSource, name)
			if err != nil {
				return err
			}
			for i := 1; i <= 2; i++ {
				c.Copy(c.Out[i], c.In[i-1], c.Node.Out[i].Bytes())
			}
			failure, node := c.Failure()
			count := q[0] * q[1] * (q[2] + 2*k.Shape[2]) * (q[3] / size)
			c.Launch(f, driver.Dim{X: ceil(count, 256)}, driver.Dim{X: 256}, 0,
				c.In[3], c.In[4], c.In[5], c.Out[0], c.Out[1], c.Out[2], c.In[2], turns, uint64(count),
				q[1], q[2], k.Shape[2], q[3], k.Shape[1], c.Narrow(), storage(k), storage(c.Node.Out[2]), failure, node)
			return nil
		},
	}
}
