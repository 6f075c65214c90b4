package stack

import (
	"slices"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// elementwise are the ops that act on each element, whatever the axes.
var elementwise = func() map[*graph.Op]bool {
	set := map[*graph.Op]bool{}
	for _, name := range []string{
		"neg", "exp", "log", "sqrt", "rsqrt", "sin", "cos", "abs", "sigmoid", "round", "scale", "cast",
		"add", "sub", "mul", "div", "max", "min", "less", "equal", "where",
	} {
		set[graph.Lookup(name)] = true
	}
	return set
}()

// shifts give the attribute of an op that acts on k values along a new first axis.
// These ops read operands that all have it as long; elementwise ones repeat an axis of
// length 1.
var shifts = map[*graph.Op]func(attr any, k int) any{
	opMatMul:                  func(attr any, _ int) any { return attr },
	graph.Lookup("sum"):       func(attr any, _ int) any { return graph.AxisAttr{Axis: attr.(graph.AxisAttr).Axis + 1} },
	graph.Lookup("amax"):      func(attr any, _ int) any { return graph.AxisAttr{Axis: attr.(graph.AxisAttr).Axis + 1} },
	graph.Lookup("concat"):    func(attr any, _ int) any { return graph.AxisAttr{Axis: attr.(graph.AxisAttr).Axis + 1} },
	graph.Lookup("reshape"):   func(attr any, k int) any { return graph.DimsAttr{Dims: behind(k, attr.(graph.DimsAttr).Dims)} },
	graph.Lookup("broadcast"): func(attr any, k int) any { return graph.DimsAttr{Dims: behind(k, attr.(graph.DimsAttr).Dims)} },
	graph.Lookup("transpose"): func(attr any, _ int) any {
		perm := behind(0, attr.(graph.DimsAttr).Dims)
		for i := range perm[1:] {
			perm[i+1]++
		}
		return graph.DimsAttr{Dims: perm}
	},
	graph.Lookup("slice"): func(attr any, _ int) any {
		a := attr.(graph.SliceAttr)
		a.Axis++
		return a
	},
	graph.Lookup("pad"): func(attr any, _ int) any {
		a := attr.(graph.PadAttr)
		a.Axis++
		return a
	},
}

// behind is dims with k before them.
func behind(k int, dims []int) []int { return slices.Insert(slices.Clone(dims), 0, k) }

// stackable reports whether n has a form that acts on a stack.
func stackable(n *graph.Node) bool { return elementwise[n.Op] || shifts[n.Op] != nil }

// stacked is the values of all members at one place of a computation: one value of
// all, or where they are the same one that is shared.
type stacked struct {
	v      graph.Value
	shared bool
}

// apply appends n for k members. What is shared by all of them is computed once.
func apply(b *graph.Builder, n *graph.Node, k int, in []stacked) stacked {
	vs := make([]graph.Value, len(in))
	shared := true
	for i, x := range in {
		vs[i] = x.v
		shared = shared && x.shared
	}
	if shared {
		return stacked{b.Apply(n.Op, n.Attr, vs...)[0], true}
	}
	attr, shift := n.Attr, shifts[n.Op]
	if shift != nil {
		attr = shift(n.Attr, k)
	}
	for i, x := range in {
		if x.shared {
			vs[i] = b.Reshape(x.v, behind(1, x.v.Shape())...)
		}
		if x.shared && shift != nil {
			vs[i] = b.Broadcast(vs[i], behind(k, x.v.Shape()))
		}
	}
	return stacked{b.Apply(n.Op, attr, vs...)[0], false}
}

// join makes a stack of one operand of all members.
func join(b *graph.Builder, vs []graph.Value) stacked {
	if !slices.ContainsFunc(vs, func(v graph.Value) bool { return v != vs[0] }) {
		return stacked{vs[0], true}
	}
	parts := make([]graph.Value, len(vs))
	for i, v := range vs {
		parts[i] = b.Reshape(v, behind(1, v.Shape())...)
	}
	return stacked{b.Concat(0, parts...), false}
}

// part is what member i has of x.
func part(b *graph.Builder, x stacked, i int, shape tensor.Shape) graph.Value {
	if x.shared {
		return x.v
	}
	return b.Reshape(b.Slice(x.v, 0, i, i+1), shape...)
}
