package engine

import (
	"fmt"

	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Limits of what is computed once: elements of a value, and nodes below which a
// graph of their own is not worth its launch.
const (
	maxOnce = 4096
	minOnce = 4
)

// privatePrefix begins the names of the buffers between the parts of a graph.
// They are no states of a store.
const privatePrefix = "~once."

// split takes out of g what depends on small states alone that g does not
// write, such as the mixing coefficients of residual streams: it is computed
// again only after one of these states has changed. In a decode step, which is
// bound by the number of its kernels, that is most of them.
//
// The results of once are the new values of buffers that rest reads. once is nil
// where there is too little of that kind.
func split(g *graph.Graph) (once, rest *graph.Graph, err error) {
	fixed, work := fixedNodes(g)
	cuts := cutValues(g, fixed)
	if work < minOnce || len(cuts) == 0 {
		return nil, g, nil
	}
	name := map[graph.Value]string{}
	for i, v := range cuts {
		name[v] = fmt.Sprintf("%s%d", privatePrefix, i)
	}
	once, err = graph.Trace(func(b *graph.Builder) {
		env := copier{b: b, env: map[graph.Value]graph.Value{}}
		for _, v := range cuts {
			b.Update(b.GlobalBuffer(name[v], v.Type()), env.value(v))
		}
	})
	if err != nil {
		return nil, nil, err
	}
	rest, err = graph.Trace(func(b *graph.Builder) {
		env := copier{b: b, env: map[graph.Value]graph.Value{}}
		for _, n := range g.Inputs { // whose order is that of a run's arguments
			env.value(graph.Value{N: n})
		}
		for _, v := range cuts {
			env.env[v] = b.GlobalBuffer(name[v], v.Type())
		}
		for _, n := range g.Nodes {
			if !fixed[n] {
				env.node(n)
			}
		}
		for _, o := range g.Outputs {
			b.Output(o.Name, env.value(o.Value))
		}
		for _, u := range g.Updates {
			b.Update(env.value(graph.Value{N: u.State}), env.value(u.Value))
		}
	})
	return once, rest, err
}

// fixedNodes finds the nodes that no run of g changes, constants among them, and
// counts those that compute something from a state.
func fixedNodes(g *graph.Graph) (fixed map[*graph.Node]bool, work int) {
	written := map[*graph.Node]bool{}
	for _, u := range g.Updates {
		written[u.State] = true
	}
	fixed = map[*graph.Node]bool{}
	for _, n := range g.Nodes {
		ok := !n.IsInput() && !written[n]
		for _, t := range n.Out {
			ok = ok && t.Shape.Numel() <= maxOnce
		}
		for _, v := range n.In {
			ok = ok && fixed[v.N]
		}
		fixed[n] = ok
		if ok && len(n.In) > 0 && !n.Op.View {
			work++
		}
	}
	return fixed, work
}

// cutValues lists the computed values of fixed nodes that others read, in order.
func cutValues(g *graph.Graph, fixed map[*graph.Node]bool) (cuts []graph.Value) {
	seen := map[graph.Value]bool{}
	read := func(v graph.Value) {
		if root := compile.Root(v); fixed[v.N] && len(root.N.In) > 0 && !seen[v] {
			seen[v] = true
			cuts = append(cuts, v)
		}
	}
	for _, n := range g.Nodes {
		if !fixed[n] {
			for _, v := range n.In {
				read(v)
			}
		}
	}
	for _, o := range g.Outputs {
		read(o.Value)
	}
	for _, u := range g.Updates {
		read(u.Value)
	}
	return cuts
}

// copier copies nodes with what they depend on, each once.
type copier struct {
	b   *graph.Builder
	env map[graph.Value]graph.Value
}

func (c copier) value(v graph.Value) graph.Value {
	if w := c.env[v]; w.Ok() {
		return w
	}
	c.node(v.N)
	return c.env[v]
}

func (c copier) node(n *graph.Node) {
	if len(n.Out) > 0 && c.env[graph.Value{N: n}].Ok() {
		return
	}
	in := make([]graph.Value, len(n.In))
	for i, v := range n.In {
		in[i] = c.value(v)
	}
	m := c.b.Copy(n, in)
	for i := range n.Out {
		c.env[graph.Value{N: n, I: i}] = graph.Value{N: m, I: i}
	}
}

// private reports whether a state is a buffer between the parts of a graph.
func private(n *graph.Node) bool {
	return len(n.Name()) > len(privatePrefix) && n.Name()[:len(privatePrefix)] == privatePrefix
}

// privateTypes lists the buffers that a graph reads or writes.
func privateTypes(g *graph.Graph) map[string]tensor.Type {
	types := map[string]tensor.Type{}
	for _, n := range g.States {
		if private(n) {
			types[n.Name()] = n.Out[0]
		}
	}
	return types
}
