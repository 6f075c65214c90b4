// Package roofline counts what a node of a lowered graph must move and compute at
// least, and how long that takes a device at its best (Williams, Waterman and
// Patterson, doi 10.1145/1498765.1498785).
package roofline

import (
	"strings"
	"time"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Machine is what a device does in a second at most.
type Machine struct {
	Name                  string
	Bandwidth             float64 // bytes
	Int8, BF16, TF32, F32 float64 // operations, two to a multiply-add
}

// H200 is an NVIDIA H200 SXM. The rate of bf16 is what large products of random
// numbers reach under its power limit; those of int8 and tf32 are in the proportion
// of the data sheet (twice and half); memory and f32 are the data sheet's.
var H200 = Machine{"H200", 4.8e12, 1580e12, 790e12, 395e12, 67e12}

// Work is what a node has to do.
type Work struct {
	Bytes                 int64 // each operand read once, each result written once
	Int8, BF16, TF32, F32 int64 // operations of products; others are few
}

// Add adds v to w.
func (w *Work) Add(v Work) {
	w.Bytes += v.Bytes
	w.Int8 += v.Int8
	w.BF16 += v.BF16
	w.TF32 += v.TF32
	w.F32 += v.F32
}

// Floor is the least time: that of the bytes or of the operations, whichever is
// longer. Operations of all kinds take the same units, one after another.
func (w Work) Floor(m Machine) time.Duration {
	ops := float64(w.Int8)/m.Int8 + float64(w.BF16)/m.BF16 + float64(w.TF32)/m.TF32 + float64(w.F32)/m.F32
	return time.Duration(max(ops, float64(w.Bytes)/m.Bandwidth) * 1e9)
}

// Of counts the work of n. In bf16 products of floats are made by tensor cores.
func Of(n *graph.Node, bf16 bool) Work {
	w := Work{Bytes: bytes(n)}
	floats := &w.F32
	if bf16 {
		floats = &w.BF16
	}
	switch n.Op.Name {
	case "matmul":
		k := n.In[0].Dim(-1)
		if n.Attr.(graph.MatMulAttr).TransX {
			k = n.In[0].Dim(-2)
		}
		if bf16 && n.In[0].Type().DType != tensor.BF16 {
			floats = &w.TF32
		}
		*floats = 2 * int64(n.Out[0].Shape.Numel()) * int64(k)
	case "joined.product", "joined.heads":
		w.Int8 = joined(n)
	case "attention":
		*floats = 2 * attention(n) // scores and values
	case "attention.vjp":
		*floats = 7 * attention(n) // five products, and both of the forward again
	case "normlinear", "normlinear.vjp":
		*floats = 2 * int64(n.In[0].Shape().Numel()) * int64(n.In[2].Dim(0))
	default:
		w.linear(n, floats)
	}
	return w
}

// linear counts the products of a quantized layer: one forward, in int8 where its
// activations are, and two backward. An op that makes its loss and gradient at
// once has all three.
func (w *Work) linear(n *graph.Node, floats *int64) {
	is, quantized := n.Op, false
	if name, ok := strings.CutSuffix(is.Name, ".int8"); ok && graph.Lookup(name) != nil {
		is, quantized = graph.Lookup(name), true // package quantized: x as codes and units
	}
	op := is
	if op.Primal() != nil {
		op = op.Primal()
	}
	weight := map[string]int{
		"bitlinear": 2, "codebookmatmul": 1, "linearcrossentropy": 1, "bitlinearcrossentropy": 2, "codebookcrossentropy": 1,
	}[op.Name]
	if weight == 0 {
		return
	}
	if quantized {
		weight = 2
	}
	product := 2 * int64(n.In[0].Dim(0)) * int64(n.In[weight].Shape().Numel())
	backward := is == op.Pullback() || is == op.Joint()
	if backward {
		*floats += 2 * product
	}
	loss := op.Name == "linearcrossentropy" || op.Name == "bitlinearcrossentropy" || op.Name == "codebookcrossentropy"
	if backward && is != op.Joint() && !loss {
		return
	}
	if a, ok := n.Attr.(graph.LinearAttr); quantized || ok && a.ActBits == 8 {
		w.Int8 += product
	} else {
		*floats += product
	}
}

// joined counts the products of a node of package ops/joined: of each row by every
// code that the node reads.
func joined(n *graph.Node) (ops int64) {
	rows := int64(n.Out[0].Shape[0])
	if n.Op.Name == "joined.heads" { // [B,T,H,D]
		rows *= int64(n.Out[0].Shape[1])
	}
	for _, v := range n.In {
		if d := v.Type().DType; d.Codes() || d == tensor.I8 {
			ops += 2 * rows * int64(v.Shape().Numel())
		}
	}
	return ops
}

// attention is the operations of one product of causal attention: row t sees
// t+1 of T columns, and those before them.
func attention(n *graph.Node) int64 {
	q, k := n.In[0].Shape(), n.In[1].Shape()
	seen := int64(q[1]) * int64(q[1]+1) / 2 // of the T by T square at the end
	seen += int64(q[1]) * int64(k[1]-q[1])
	return 2 * int64(q[0]) * int64(q[2]) * int64(q[3]) * seen
}

// bytes is what n reads and writes. What only some rows of are touched counts
// with these rows.
func bytes(n *graph.Node) int64 {
	sum := int64(0)
	idle := n.Idle()
	reads, _ := n.Attr.(interface{ Reads(operand int) int }) // elements, of a chain
	for i, v := range n.In {
		switch {
		case idle[i]:
		case n.Op.Name == "gather" && i == 0:
			sum += int64(n.Out[0].Shape.Numel()) * int64(v.Type().DType.Bytes())
		case n.Op.Name == "updateat" && i == 0:
		case inCache(n) && i < 2:
		case reads != nil:
			sum += int64(reads.Reads(i)) * int64(v.Type().DType.Bytes())
		default:
			sum += int64(v.Type().Bytes())
		}
	}
	for i, t := range n.Out {
		switch {
		case n.Op.Name == "updateat":
			t = n.In[1].Type()
		case inCache(n) && i > 0: // [B,limit,H,D], of which T tokens of each sequence are written
			t.Shape = tensor.Shape{t.Shape[0], n.Out[0].Shape[1], t.Shape[2], t.Shape[3]}
		}
		sum += int64(t.Bytes())
	}
	return sum
}

// inCache reports whether n writes keys and values into caches, its first operands,
// beside its query.
func inCache(n *graph.Node) bool { return n.Op.Name == "joined.heads" || n.Op.Name == "joined.cache" }
