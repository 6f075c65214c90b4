package compile

import (
	"slices"

	"github.com/ternlm/tern/framework/graph"
)

const (
	// recomputeBytes is the size from which a value is worth computing again.
	recomputeBytes = 256 << 10
	// recomputeGap is how many nodes lie between uses of a value, from which on
	// it is better computed again than kept: in a training step, those of the
	// forward pass are many nodes before those of the backward pass.
	recomputeGap = 64
)

// recompute computes cheap values a second time, just before the backward pass
// reads them, where their operands are kept until then in any case: so norms
// and gates of all layers need not stand in memory together (rematerialization,
// Chen et al. 2016, without a cost that counts). The bits are the same.
func recompute(g *graph.Graph, bytes, gap int) (*graph.Graph, error) {
	for {
		again := pickAgain(g, bytes, gap)
		if len(again) == 0 {
			return g, nil
		}
		var err error
		if g, err = computeAgain(g, again); err != nil {
			return nil, err
		}
	}
}

// pickAgain maps node IDs to the nodes to be computed again before them. Users
// come before their operands, which wait for the next round: a second copy of
// the user makes another use of them.
func pickAgain(g *graph.Graph, bytes, gap int) map[int][]*graph.Node {
	last, uses, written := lifetimes(g), usesOf(g), map[*graph.Node]bool{}
	for _, u := range g.Updates {
		written[u.State] = true
	}
	again, waiting := map[int][]*graph.Node{}, map[*graph.Node]bool{}
	for _, n := range slices.Backward(g.Nodes) {
		if !n.Op.Cheap || waiting[n] || len(n.Out) != 1 || n.Out[0].Bytes() < bytes {
			continue
		}
		at, ok := widestGap(uses[n], gap)
		if !ok || at >= len(g.Nodes) {
			continue
		}
		for _, v := range n.In {
			root := Root(v)
			ok = ok && !written[root.N] && (leaf(root.N) || last[root] >= at)
		}
		if ok {
			again[at] = append(again[at], n)
			for _, v := range n.In {
				waiting[Root(v).N] = true
			}
		}
	}
	return again
}

// usesOf lists the nodes that read each node's results, in order; results and
// updates are read after the last node. A node that has views has none: they
// would have to be made again too.
func usesOf(g *graph.Graph) map[*graph.Node][]int {
	uses, views := map[*graph.Node][]int{}, map[*graph.Node]bool{}
	for _, n := range g.Nodes {
		idle := n.Idle()
		for i, v := range n.In {
			if !idle[i] {
				uses[v.N] = append(uses[v.N], n.ID)
			}
			views[v.N] = views[v.N] || n.Op.View
		}
	}
	for _, o := range g.Outputs {
		uses[o.Value.N] = append(uses[o.Value.N], len(g.Nodes))
	}
	for _, u := range g.Updates {
		uses[u.Value.N] = append(uses[u.Value.N], len(g.Nodes))
	}
	for n := range views {
		if views[n] {
			delete(uses, n)
		}
	}
	return uses
}

// widestGap returns the use after the widest gap between two uses, if it is
// wide enough.
func widestGap(uses []int, gap int) (at int, ok bool) {
	for i := 1; i < len(uses); i++ {
		if d := uses[i] - uses[i-1]; d >= gap {
			gap, at, ok = d, uses[i], true
		}
	}
	return at, ok
}

// computeAgain copies g with second copies of nodes before those that again
// names; whoever comes later reads the second copy.
func computeAgain(g *graph.Graph, again map[int][]*graph.Node) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		env := map[graph.Value]graph.Value{}
		emit := func(n *graph.Node) {
			in := make([]graph.Value, len(n.In))
			for i, v := range n.In {
				in[i] = env[v]
			}
			m := b.Copy(n, in)
			for i := range n.Out {
				env[graph.Value{N: n, I: i}] = graph.Value{N: m, I: i}
			}
		}
		for _, n := range g.Nodes {
			for _, m := range again[n.ID] {
				emit(m)
			}
			emit(n)
		}
		finish(b, g, env)
	})
}
