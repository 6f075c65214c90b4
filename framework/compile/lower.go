package compile

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ternlm/tern/framework/graph"
)

// Lower expands composites that native declines, drops straight-through
// markers and dead nodes, merges equal nodes, and moves updates next to the
// values they consume. Large values that are cheap to compute are computed
// again where that saves keeping them, and those that have a kernel together
// with their pullback are joined with it. It fails when a primitive is not native.
func Lower(g *graph.Graph, native func(*graph.Node) bool) (*graph.Graph, error) {
	for {
		again := false
		next, err := graph.Trace(func(b *graph.Builder) { again = rewrite(b, g, native) })
		if err != nil {
			return nil, err
		}
		g = next
		if !again {
			break
		}
	}
	for _, n := range g.Nodes {
		if !leaf(n) && !n.Op.View && !native(n) {
			return nil, fmt.Errorf("%s (node %%%d) has no kernel", n.Op.Name, n.ID)
		}
	}
	g, err := join(g, native)
	if err != nil {
		return nil, err
	}
	if g, err = schedule(g); err != nil {
		return nil, err
	}
	return recompute(g, recomputeBytes, recomputeGap)
}

func leaf(n *graph.Node) bool { return n.IsInput() || n.IsState() }

var opThrough, opCut = graph.Lookup("through"), graph.Lookup("cut")

// rewrite copies the live part of g into b once and reports whether it
// expanded a node.
func rewrite(b *graph.Builder, g *graph.Graph, native func(*graph.Node) bool) (expanded bool) {
	live := reach(g)
	env := map[graph.Value]graph.Value{}
	seen := map[string]*graph.Node{}
	for _, n := range g.Nodes {
		if !live[n.ID] {
			continue
		}
		in := make([]graph.Value, len(n.In))
		for i, v := range n.In {
			in[i] = env[v]
		}
		if n.Op == opThrough || n.Op == opCut {
			env[graph.Value{N: n}] = in[0]
			continue
		}
		if n.Op.Composite() && !native(n) {
			expanded = true
			b.In(n.Scope, func() {
				for i, v := range n.Op.Expand(b, n.Attr, in) {
					env[graph.Value{N: n, I: i}] = v
				}
			})
			continue
		}
		key := keyOf(n, in)
		m := seen[key]
		if m == nil {
			m = b.Copy(n, in)
			seen[key] = m
		}
		for i := range n.Out {
			env[graph.Value{N: n, I: i}] = graph.Value{N: m, I: i}
		}
	}
	finish(b, g, env)
	return expanded
}

// finish declares g's outputs and updates on the copied values.
func finish(b *graph.Builder, g *graph.Graph, env map[graph.Value]graph.Value) {
	for _, o := range g.Outputs {
		b.Output(o.Name, env[o.Value])
	}
	for _, u := range g.Updates {
		b.Update(env[graph.Value{N: u.State}], env[u.Value])
	}
}

// keyOf identifies a node up to equality of op, attribute and operands.
func keyOf(n *graph.Node, in []graph.Value) string {
	var s strings.Builder
	s.WriteString(n.Op.Name)
	for _, v := range in {
		fmt.Fprintf(&s, " %d.%d", v.N.ID, v.I)
	}
	if n.Attr != nil {
		js, _ := json.Marshal(n.Attr) // checked when the node was made
		s.Write(js)
	}
	return s.String()
}

// reach marks the nodes that outputs, updates and inputs need.
func reach(g *graph.Graph) []bool {
	live := make([]bool, len(g.Nodes))
	for _, n := range g.Inputs {
		live[n.ID] = true
	}
	for _, o := range g.Outputs {
		live[o.Value.N.ID] = true
	}
	for _, u := range g.Updates {
		live[u.State.ID], live[u.Value.N.ID] = true, true
	}
	for id := len(g.Nodes) - 1; id >= 0; id-- {
		if n := g.Nodes[id]; live[id] {
			// The value of a straight-through node needs operand 0 alone.
			for i, v := range n.In {
				if n.Op != opThrough || i == 0 {
					live[v.N.ID] = true
				}
			}
		}
	}
	return live
}

// schedule moves each node that only feeds an update to just after its last
// operand, so that what it consumes (a gradient, say) dies at once.
func schedule(g *graph.Graph) (*graph.Graph, error) {
	hoist := hoistable(g)
	due := map[int][]*graph.Node{}
	for n := range hoist {
		at := 0
		for _, v := range n.In {
			if !v.N.IsState() {
				at = max(at, v.N.ID)
			}
		}
		due[at] = append(due[at], n)
	}
	return graph.Trace(func(b *graph.Builder) {
		env := map[graph.Value]graph.Value{}
		emit := func(n *graph.Node) {
			in := make([]graph.Value, len(n.In))
			for i, v := range n.In {
				if v.N.IsState() && !env[v].Ok() {
					env[v] = graph.Value{N: b.Copy(v.N, nil)}
				}
				in[i] = env[v]
			}
			m := b.Copy(n, in)
			for i := range n.Out {
				env[graph.Value{N: n, I: i}] = graph.Value{N: m, I: i}
			}
		}
		for _, n := range g.Nodes {
			if !hoist[n] && !env[graph.Value{N: n}].Ok() {
				emit(n)
			}
			slices.SortFunc(due[n.ID], func(x, y *graph.Node) int { return cmp.Compare(x.ID, y.ID) })
			for _, u := range due[n.ID] {
				emit(u)
			}
		}
		finish(b, g, env)
	})
}

// hoistable returns the nodes whose results only feed updates and which can
// run in place.
func hoistable(g *graph.Graph) map[*graph.Node]bool {
	set := map[*graph.Node]bool{}
	for _, u := range g.Updates {
		n := u.Value.N
		if len(n.In) > 0 && n.Op.Alias != nil {
			set[n] = true
		}
	}
	for _, n := range g.Nodes {
		for _, v := range n.In {
			delete(set, v.N)
		}
	}
	for _, o := range g.Outputs {
		delete(set, o.Value.N)
	}
	return set
}
