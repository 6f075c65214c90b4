package avx2

import (
	"fmt"

	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// panelCols is the width of a packed panel of the right operand.
const panelCols = 16

// maxBatch is the number of products in one node up to which each is worth a
// loop of its own.
const maxBatch = 64

// gemmOf plans one product of a matmul node.
func (k parallel) gemmOf(n *graph.Node) simd.Gemm {
	a, x, z := n.Attr.(graph.MatMulAttr), n.In[0].Shape(), n.Out[0].Shape
	r := len(x)
	inner := x[r-1]
	if a.TransX {
		inner = x[r-2]
	}
	return simd.Gemm{M: z[r-2], N: z[r-1], K: inner, TransA: a.TransX, TransB: a.TransY, Workers: k.workers, ISA: k.isa}
}

// matMul multiplies f32 by f32 or, as weights [N,K], by f16. A right operand
// of two dimensions is packed once for as long as it does not change.
func (k parallel) matMul() host.Kernel {
	batches := func(n *graph.Node) int { return n.In[0].Shape()[:len(n.In[0].Shape())-2].Numel() }
	plan := func(n *graph.Node) simd.Gemm {
		g := k.gemmOf(n)
		g.Packed = len(n.In[0].Shape()) == 2
		g.Symmetric = symmetric(graph.Value{N: n})
		return g
	}
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			g := k.gemmOf(n)
			f16 := n.In[1].Type().DType == tensor.F16
			one := len(n.In[0].Shape()) == 2
			return batches(n) <= maxBatch && (g.N >= 8 || one) && g.K >= 4 && (!f16 || g.TransB && one)
		},
		Scratch: func(n *graph.Node) int {
			g := plan(n)
			return g.ScratchBytes()
		},
		Prepare: func(n *graph.Node) []host.Prepared {
			g := plan(n)
			if !g.Packed {
				return nil
			}
			return []host.Prepared{{
				Key: fmt.Sprintf("avx2 panels, transposed %v", g.TransB), Operands: []int{1}, Bytes: 4 * simd.PackedBLen(g.N, g.K), Sole: true,
				Fill: func(dst []byte, in []tensor.Tensor) []host.Loop { return k.packB(tensorF32(dst), in[0], g) },
			}}
		},
		Bind: func(c *host.Call) []host.Loop {
			g := plan(c.Node)
			x, z := c.In[0].F32(), c.Out[0].F32()
			if g.Packed {
				return loops(g.Phases(x, tensorF32(c.Prepared[0]), z, c.Scratch))
			}
			y := c.In[1].F32()
			var all []host.Loop
			for i := range batches(c.Node) {
				all = append(all, loops(g.Phases(x[i*g.M*g.K:(i+1)*g.M*g.K], y[i*g.K*g.N:(i+1)*g.K*g.N], z[i*g.M*g.N:(i+1)*g.M*g.N], c.Scratch))...)
			}
			return all
		},
	}
}

// symmetric reports whether v is a product of a matrix with its own transpose,
// or with itself where it is such a product: the Gram matrices of Muon.
func symmetric(v graph.Value) bool {
	n := v.N
	if n.Op.Name != "matmul" || n.In[0] != n.In[1] || len(n.In[0].Shape()) != 2 {
		return false
	}
	a := n.Attr.(graph.MatMulAttr)
	return a.TransX != a.TransY || symmetric(n.In[0])
}

// packB packs the right operand of g, panel by panel.
func (k parallel) packB(dst []float32, b tensor.Tensor, g simd.Gemm) []host.Loop {
	panels := (g.N + panelCols - 1) / panelCols
	if b.DType == tensor.F32 {
		src := b.F32()
		return []host.Loop{loop(panels, g.K*panelCols, func(lo, hi int) { simd.PackB(dst, src, g.N, g.K, g.TransB, lo, hi) })}
	}
	src := b.U16()
	var slots simd.Slots
	slots.Init(k.workers, panelCols*g.K, make([]float32, k.workers*panelCols*g.K))
	return []host.Loop{loop(panels, g.K*panelCols, func(lo, hi int) {
		slot, area := slots.Take()
		defer slots.Give(slot)
		for p := lo; p < hi; p++ {
			rows := min(panelCols, g.N-p*panelCols)
			wide := area[:rows*g.K]
			simd.F16ToF32(wide, src[p*panelCols*g.K:])
			simd.PackB(dst[p*panelCols*g.K:], wide, rows, g.K, true, 0, 1)
		}
	})}
}
