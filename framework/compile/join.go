package compile

import (
	"slices"

	"github.com/ternlm/tern/framework/graph"
)

// pair is a composite and its pullback on the same operands.
type pair struct{ value, pullback *graph.Node }

// join replaces pairs of a composite and its pullback by their joint op, where
// that is native and the cotangents do not depend on the composite's results:
// the gradient of a mean, say, is known before the loss.
func join(g *graph.Graph, native func(*graph.Node) bool) (*graph.Graph, error) {
	pairs := pairsOf(g, native)
	if len(pairs) == 0 {
		return g, nil
	}
	first := map[*graph.Node]pair{}
	for _, p := range pairs {
		first[p.value] = p
	}
	return graph.Trace(func(b *graph.Builder) {
		env := map[graph.Value]graph.Value{}
		for _, n := range g.Inputs { // whose order is that of a run's arguments
			env[graph.Value{N: n}] = graph.Value{N: b.Copy(n, nil)}
		}
		var emit func(n *graph.Node)
		operands := func(n *graph.Node) []graph.Value {
			in := make([]graph.Value, len(n.In))
			for i, v := range n.In {
				emit(v.N) // cotangents come early
				in[i] = env[v]
			}
			return in
		}
		emit = func(n *graph.Node) {
			if env[graph.Value{N: n}].Ok() {
				return
			}
			p, joint := first[n]
			if !joint {
				m := b.Copy(n, operands(n))
				for i := range n.Out {
					env[graph.Value{N: n, I: i}] = graph.Value{N: m, I: i}
				}
				return
			}
			in := operands(p.pullback)
			b.In(n.Scope, func() {
				for i, v := range b.Apply(n.Op.Joint(), n.Attr, in...) {
					if i < len(n.Out) {
						env[graph.Value{N: n, I: i}] = v
					} else {
						env[graph.Value{N: p.pullback, I: i - len(n.Out)}] = v
					}
				}
			})
		}
		for _, n := range g.Nodes {
			emit(n)
		}
		finish(b, g, env)
	})
}

// pairsOf finds what can be joined. A pair whose cotangents depend on another's
// value is none: the product of two losses, say, would have each wait for the
// other.
func pairsOf(g *graph.Graph, native func(*graph.Node) bool) (pairs []pair) {
	values := map[string]*graph.Node{}
	for _, n := range g.Nodes {
		if n.Op.Joint() != nil {
			values[keyOf(n, n.In)] = n
		}
	}
	for _, n := range g.Nodes {
		op := n.Op.Primal()
		if op == nil || op.Joint() == nil || n.Op != op.Pullback() {
			continue
		}
		k := len(n.In) - op.Results
		value := values[keyOf(&graph.Node{Op: op, Attr: n.Attr}, n.In[:k])]
		if value == nil || dependsOn(n.In[k:], value) || slices.ContainsFunc(pairs, func(p pair) bool { return dependsOn(n.In[k:], p.value) }) {
			continue
		}
		joint := &graph.Node{Op: op.Joint(), In: n.In, Attr: n.Attr, Out: append(value.Out[:len(value.Out):len(value.Out)], n.Out...), Scope: value.Scope}
		if native(joint) {
			pairs = append(pairs, pair{value, n})
		}
	}
	return pairs
}

// dependsOn reports whether values are computed from a result of n.
func dependsOn(values []graph.Value, n *graph.Node) bool {
	seen := map[*graph.Node]bool{}
	var look func(m *graph.Node) bool
	look = func(m *graph.Node) bool {
		if m == n {
			return true
		}
		if seen[m] || m.ID < n.ID { // operands come before their users
			return false
		}
		seen[m] = true
		for _, v := range m.In {
			if look(v.N) {
				return true
			}
		}
		return false
	}
	for _, v := range values {
		if look(v.N) {
			return true
		}
	}
	return false
}
