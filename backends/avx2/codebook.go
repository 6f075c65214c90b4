package avx2

import (
	"fmt"
	"slices"

	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// minGroup keeps the padding of groups to 32 columns within eight times their size.
const minGroup = 4

// packing is how a kind of weight is laid out.
type packing interface {
	RowBlocks() int
	PackedBytes() int
	Repack(dst, codes []byte, scales []float32, lo, hi int)
}

// multiplying is how it meets quantized activations.
type multiplying interface {
	TokenBytes(n int) int
	Tokens(area []byte, n int) simd.Tokens
	Quantize(k *simd.Tokens, i int, x []float32)
	MatMul(y []float32, ldY int, w []byte, k *simd.Tokens, rowLo, rowHi, lo, hi int)
}

// product is one way to multiply int8 activations by a weight of codes, in exact integers. Two ways with one key share
// the packed weight.
type product struct {
	packing
	multiplying
	key string
}

// planner finds the way for the weight whose codes are operand `codes` of n.
type planner func(n *graph.Node, codes int) (product, bool)

// group gives the rows, columns and columns a scale of the weight whose codes are operand `codes` of n.
func group(n *graph.Node, codes int) (m, k, group int) {
	w, s := n.In[codes].Shape(), n.In[codes+1].Shape()
	return w[0], w[1], w[1] / s[1]
}

func isTernary(n *graph.Node, codes int) bool {
	a := n.Attr.(graph.LinearAttr)
	return n.In[codes].Type().DType == tensor.U2 && a.ActBits == 8 && slices.Equal(a.Levels, []int8{-1, 0, 1})
}

// ternary multiplies levels -1, 0, 1.
func (k parallel) ternary(n *graph.Node, codes int) (product, bool) {
	if !isTernary(n, codes) {
		return product{}, false
	}
	t, ok := simd.NewTernary(group(n, codes))
	t.ISA = k.isa
	return product{&t, &t, "avx2 ternary row blocks"}, ok
}

// shuffled looks the products of ternary up.
func shuffled(n *graph.Node, codes int) (product, bool) {
	if !isTernary(n, codes) {
		return product{}, false
	}
	s, ok := simd.NewShuffle(group(n, codes))
	return product{&s, &s, "avx2 ternary look-up row blocks"}, ok
}

// anyLevels multiplies the levels of any code book, or int8 levels.
func (k parallel) anyLevels(n *graph.Node, codes int) (product, bool) {
	a, d := n.Attr.(graph.LinearAttr), n.In[codes].Type().DType
	if a.ActBits != 8 {
		return product{}, false
	}
	rows, cols, g := group(n, codes)
	if g < minGroup {
		return product{}, false
	}
	c, ok := simd.NewCodebook(rows, cols, g, 8/d.Block(), a.Levels)
	c.ISA = k.isa
	return product{&c, &c, fmt.Sprintf("avx2 row blocks of levels %v", a.Levels)}, ok
}

// addProducts adds the linear layers on codes, the last planner's before the others'. What none takes stays with the
// kernels that t has.
func (k parallel) addProducts(t host.Table, planners ...planner) {
	for _, plan := range planners {
		t.Add("codebookmatmul", k.integerProduct(1, plan))
		t.Add("bitlinear", k.integerProduct(2, plan))
	}
}

// rowScales gives every row its scales: where the whole weight has one, fill repeats it and must run first.
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

// integerProduct is the kernel of linear layers whose weight is operand `codes`.
// Row blocks are handed out in pairs, as the kernels of several tokens take them.
func (k parallel) integerProduct(codes int, plan planner) host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			_, ok := plan(n, codes)
			return ok
		},
		Prepare: func(n *graph.Node) []host.Prepared {
			p, _ := plan(n, codes)
			m, _, _ := group(n, codes)
			return []host.Prepared{{
				Key: p.key, Operands: []int{codes, codes + 1}, Bytes: p.PackedBytes(), Sole: true,
				Fill: func(dst []byte, in []tensor.Tensor) []host.Loop {
					scales, fill := rowScales(in[1], m)
					return append(fill, loop(p.RowBlocks(), perBlock(n, codes, p), func(lo, hi int) {
						p.Repack(dst, in[0].Data, scales, lo, hi)
					}))
				},
			}}
		},
		Scratch: func(n *graph.Node) int {
			p, _ := plan(n, codes)
			return p.TokenBytes(n.In[0].Dim(0))
		},
		Bind: func(c *host.Call) []host.Loop {
			p, _ := plan(c.Node, codes)
			m, d, _ := group(c.Node, codes)
			x, y, n := c.In[0].F32(), c.Out[0].F32(), c.In[0].Shape[0]
			tokens := p.Tokens(c.Scratch, n)
			quantize := loop(n, d/2, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					p.Quantize(&tokens, i, x[i*d:(i+1)*d])
				}
			})
			pairs := (p.RowBlocks() + 1) / 2
			multiply := loop(pairs, 2*n*perBlock(c.Node, codes, p)/k.multiplyAdds(n), func(lo, hi int) {
				p.MatMul(y, m, c.Prepared[0], &tokens, 2*lo, min(2*hi, p.RowBlocks()), 0, n)
			})
			return []host.Loop{quantize, multiply}
		},
	}
}

// multiplyAdds is about how many multiply-adds of n tokens take as long as an
// element operation: so one token is worth two threads from a quarter of a
// million weights on.
func (k parallel) multiplyAdds(n int) int {
	switch {
	case n < 3: // the codes have to be fetched and unpacked for each
		return 32
	case k.isa == simd.AVX2:
		return 64
	}
	return 128
}

// perBlock is about how many weights a row block has.
func perBlock(n *graph.Node, codes int, p product) int {
	return n.In[codes].Shape().Numel() / max(1, p.RowBlocks())
}
