package avx2

import (
	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// codesOf describes the weight whose codes and scales are operands `codes` and
// the next of n, without their data.
func codesOf(n *graph.Node, codes int) simd.Codes {
	w, s := n.In[codes].Type(), n.In[codes+1].Shape()
	c := simd.Codes{
		M: w.Shape[0], K: w.Shape[1], Group: w.Shape[1] / s[1],
		Bits: 8 / w.DType.Block(), Levels: n.Attr.(graph.LinearAttr).Levels,
	}
	if s[0] == c.M {
		c.StrideScales = s[1]
	}
	return c
}

// hasPanels reports whether the weight whose codes are operand `codes` of n is
// one that simd.Codes describes, multiplied by int8 activations.
func hasPanels(n *graph.Node, codes int) bool {
	switch n.In[codes].Type().DType {
	case tensor.U1, tensor.U2, tensor.U4, tensor.I8:
		return n.Attr.(graph.LinearAttr).ActBits == 8
	}
	return false
}

// bitLinearVJP is dX = dY W^ and dW = dY^T x^, with W^ and x^ as the forward
// pass used them. The scales are constants. W^ is made from the codes block by
// block: it never stands in memory.
func (k parallel) bitLinearVJP() host.Kernel {
	shapes := func(n *graph.Node, codes *simd.Codes) (dx, dw simd.Gemm) {
		N, K, M := n.In[0].Dim(0), n.In[0].Dim(1), n.In[2].Dim(0)
		return simd.Gemm{M: N, N: K, K: M, Source: codes.Panels, Workers: k.workers, ISA: k.isa}, simd.Gemm{M: M, N: K, K: N, TransA: true, Workers: k.workers, ISA: k.isa}
	}
	return host.Kernel{
		Supports: func(n *graph.Node) bool { return hasPanels(n, 2) },
		Scratch: func(n *graph.Node) int {
			codes := codesOf(n, 2)
			dx, dw := shapes(n, &codes)
			return 4*n.In[0].Shape().Numel() + max(dx.ScratchBytes(), dw.ScratchBytes())
		},
		Bind: func(c *host.Call) []host.Loop {
			codes := codesOf(c.Node, 2)
			codes.Codes, codes.Scales = c.In[2].Data, c.In[3].F32()
			dx, dw := shapes(c.Node, &codes)
			x, g := c.In[0].F32(), c.In[4].F32()
			hat, rest := tensorF32(c.Scratch)[:len(x)], c.Scratch[4*len(x):]
			d := c.In[0].Shape[1]
			quantize := loop(c.In[0].Shape[0], 3*d, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					simd.FakeQuantRow(hat[i*d:(i+1)*d], x[i*d:(i+1)*d])
				}
			})
			all := loops(dx.Phases(g, nil, c.Out[0].F32(), rest))
			all = append(all, quantize)
			all = append(all, loops(dw.Phases(g, hat, c.Out[1].F32(), rest))...)
			dScales := c.Out[2].Data
			return append(all, host.Loop{Items: 1, Do: func(_, _ int) { clear(dScales) }})
		},
	}
}
