package engine

import (
	"slices"

	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// minNarrow is how many elements a value has at least that is stored as bf16:
// below it there is nothing to win.
const minNarrow = 4096

// narrow has large f32 values between kernels stored as bf16, as mixed-precision
// training does (Micikevicius et al., arXiv 1710.03740; bf16 needs no loss
// scaling). These stay f32: what does not depend on tokens (weights and what an
// optimizer or quantizer makes of them), results and new states of the graph, what
// these are added up from, and what a kernel does not take otherwise.
//
// It changes the types of g's nodes, which are the caller's own.
func narrow(g *graph.Graph, kernels map[*graph.Node]Kernel) {
	can := candidates(g, kernels)
	for _, n := range g.Nodes {
		out := slices.Clone(n.Out)
		for i := range out {
			if can[compile.Root(graph.Value{N: n, I: i})] {
				out[i].DType = tensor.BF16
			}
		}
		n.Out = out
	}
}

// candidates finds the values that become bf16.
func candidates(g *graph.Graph, kernels map[*graph.Node]Kernel) map[graph.Value]bool {
	can := map[graph.Value]bool{}
	fed := map[*graph.Node]bool{} // depends on tokens
	for _, n := range g.Nodes {
		fed[n] = n.IsInput() && n.Out[0].DType == tensor.I32
		for _, v := range n.In {
			fed[n] = fed[n] || fed[v.N]
		}
		k, ok := kernels[n]
		if !ok || !fed[n] || k.Narrow == nil {
			continue
		}
		_, out := k.Narrow(n)
		for i, t := range n.Out {
			can[graph.Value{N: n, I: i}] = out[i] && t.DType == tensor.F32 && len(t.Shape) > 1 && t.Shape.Numel() >= minNarrow
		}
	}
	for v := range exact(g, kernels) {
		delete(can, v)
	}
	for _, n := range g.Nodes {
		k, ok := kernels[n]
		if !ok {
			continue // a view: whoever reads it decides
		}
		in := make([]bool, len(n.In))
		if k.Narrow != nil {
			in, _ = k.Narrow(n)
		}
		for i, v := range n.In {
			if !in[i] {
				delete(can, compile.Root(v))
			}
		}
	}
	return can
}

// exact holds the values that leave the graph, and those that chains of
// elementwise work make new states of: a gradient is added up in f32, and so is
// what it is added up from.
func exact(g *graph.Graph, kernels map[*graph.Node]Kernel) map[graph.Value]bool {
	set := map[graph.Value]bool{}
	for _, u := range g.Updates {
		set[compile.Root(u.Value)] = true
	}
	for _, n := range slices.Backward(g.Nodes) {
		if _, ok := kernels[n]; !ok || !simple(n) {
			continue
		}
		for i, t := range n.Out {
			if !set[graph.Value{N: n, I: i}] {
				continue
			}
			for _, v := range n.In {
				if v.Type().Shape.Numel() == t.Shape.Numel() {
					set[compile.Root(v)] = true
				}
			}
		}
	}
	for _, o := range g.Outputs {
		set[compile.Root(o.Value)] = true
	}
	return set
}

// simple reports whether the results of n are made of its operands element by
// element, or could be. Of the ops that only a pass knows, chains are.
func simple(n *graph.Node) bool {
	switch n.Op.Name {
	case "matmul", "gather", "scatteradd":
		return false
	case "fused":
		return true
	}
	if graph.Lookup(n.Op.Name) != n.Op {
		return false
	}
	return !n.Op.Composite() && n.Op.Primal() == nil
}
