package avx2

import (
	"slices"

	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// matrixOf describes the ternary weight whose codes are operand `codes` of n.
func matrixOf(n *graph.Node, codes int) (simd.Ternary, bool) {
	a := n.Attr.(graph.LinearAttr)
	w, s := n.In[codes].Type(), n.In[codes+1].Shape()
	if w.DType != tensor.U2 || a.ActBits != 8 || !slices.Equal(a.Levels, []int8{-1, 0, 1}) {
		return simd.Ternary{}, false
	}
	return simd.NewTernary(w.Shape[0], w.Shape[1], w.Shape[1]/s[1])
}

// rowScales gives every row its scales: where the whole weight has one, fill
// repeats it and must run first.
func rowScales(scales tensor.Tensor, rows int) (all []float32, fill []host.Loop) {
	s := scales.F32()
	if scales.Shape[0] == rows {
		return s, nil
	}
	all = make([]float32, rows)
	return all, []host.Loop{{Items: 1, Do: func(_, _ int) {
		for i := range all {
			all[i] = s[0]
		}
	}}}
}

// ternary multiplies int8 activations by ternary weights in exact integers.
func (k parallel) ternary(codes int) host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			_, ok := matrixOf(n, codes)
			return ok
		},
		Prepare: func(n *graph.Node) []host.Prepared {
			t, _ := matrixOf(n, codes)
			return []host.Prepared{{
				Key: "avx2 ternary row blocks", Operands: []int{codes, codes + 1}, Bytes: t.PackedBytes(),
				Fill: func(dst []byte, in []tensor.Tensor) []host.Loop {
					scales, fill := rowScales(in[1], t.M)
					return append(fill, loop(t.RowBlocks(), simd.RowBlock*t.K, func(lo, hi int) {
						t.Repack(dst, in[0].Data, scales, lo, hi)
					}))
				},
			}}
		},
		Scratch: func(n *graph.Node) int {
			t, _ := matrixOf(n, codes)
			return t.TokenBytes(n.In[0].Dim(0))
		},
		Bind: func(c *host.Call) []host.Loop {
			t, _ := matrixOf(c.Node, codes)
			x, y, n := c.In[0].F32(), c.Out[0].F32(), c.In[0].Shape[0]
			tokens := t.Tokens(c.Scratch, n)
			quantize := loop(n, 2*t.K, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					t.Quantize(&tokens, i, x[i*t.K:(i+1)*t.K])
				}
			})
			// About 64 multiply-adds take the time of one element operation.
			multiply := loop(t.RowBlocks(), n*t.K*simd.RowBlock/64, func(lo, hi int) {
				t.MatMul(y, t.M, c.Prepared[0], &tokens, lo, hi, 0, n)
			})
			return []host.Loop{quantize, multiply}
		},
	}
}
