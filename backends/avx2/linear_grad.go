package avx2

import (
	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// bitLinearVJP is dX = dY W^ and dW = dY^T x^, with W^ and x^ as the forward
// pass used them. The scales are constants.
func (k parallel) bitLinearVJP() host.Kernel {
	shapes := func(n *graph.Node) (dx, dw simd.Gemm) {
		N, K, M := n.In[0].Dim(0), n.In[0].Dim(1), n.In[2].Dim(0)
		return simd.Gemm{M: N, N: K, K: M, Packed: true, Workers: k.workers}, simd.Gemm{M: M, N: K, K: N, TransA: true, Workers: k.workers}
	}
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			_, ok := matrixOf(n, 2)
			return ok
		},
		Prepare: func(n *graph.Node) []host.Prepared {
			t, _ := matrixOf(n, 2)
			return []host.Prepared{{
				Key: "avx2 dequantized panels", Operands: []int{2, 3}, Bytes: 4 * simd.PackedBLen(t.K, t.M),
				Fill: func(dst []byte, in []tensor.Tensor) []host.Loop {
					scales, fill := rowScales(in[1], t.M)
					return append(fill, loop(t.K/panelCols, t.M*panelCols, func(lo, hi int) {
						t.PackPanels(tensorF32(dst), in[0].Data, scales, lo, hi)
					}))
				},
			}}
		},
		Scratch: func(n *graph.Node) int {
			dx, dw := shapes(n)
			return 4*n.In[0].Shape().Numel() + max(dx.ScratchBytes(), dw.ScratchBytes())
		},
		Bind: func(c *host.Call) []host.Loop {
			dx, dw := shapes(c.Node)
			x, g := c.In[0].F32(), c.In[4].F32()
			hat, rest := tensorF32(c.Scratch)[:len(x)], c.Scratch[4*len(x):]
			d := c.In[0].Shape[1]
			quantize := loop(c.In[0].Shape[0], 3*d, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					simd.FakeQuantRow(hat[i*d:(i+1)*d], x[i*d:(i+1)*d])
				}
			})
			all := loops(dx.Phases(g, tensorF32(c.Prepared[0]), c.Out[0].F32(), rest))
			all = append(all, quantize)
			all = append(all, loops(dw.Phases(g, hat, c.Out[1].F32(), rest))...)
			dScales := c.Out[2].Data
			return append(all, host.Loop{Items: 1, Do: func(_, _ int) { clear(dScales) }})
		},
	}
}
