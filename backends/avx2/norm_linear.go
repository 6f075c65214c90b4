package avx2

import (
	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// normRows is the number of rows that a norm and the products around it go over
// together: what they read then stays in the second-level cache.
const normRows = 48

// normSizes are those of x [N,C], gain [C] and w [K,C].
func normSizes(n *graph.Node) (N, C, K int) {
	return n.In[0].Dim(0), n.In[0].Dim(1), n.In[2].Dim(0)
}

func (k parallel) addNormLinear(t host.Table) {
	supports := func(n *graph.Node) bool { return n.In[0].Dim(1) >= 8 }
	forward, back := k.normLinear(), k.normLinearVJP()
	forward.Supports, back.Supports = supports, supports
	t.Add("normlinear", forward)
	t.Add("normlinear.vjp", back)
}

// normLinear multiplies the rows by (gain w)^T and each product by the inverse
// of its row's root mean square: no normalized row is made.
func (k parallel) normLinear() host.Kernel {
	return host.Kernel{
		Prepare: func(n *graph.Node) []host.Prepared {
			_, C, K := normSizes(n)
			return []host.Prepared{{
				Key: "avx2 gained rows", Operands: []int{1, 2}, Bytes: 4 * simd.PackedBLen(K, C),
				Fill: func(dst []byte, in []tensor.Tensor) []host.Loop {
					return packGained(tensorF32(dst), in[0].F32(), in[1].F32(), K)
				},
			}}
		},
		Bind: func(c *host.Call) []host.Loop {
			N, C, K := normSizes(c.Node)
			x, z := c.In[0].F32(), c.Out[0].F32()
			eps := float32(c.Node.Attr.(graph.NormAttr).Eps)
			products := rowBlocks(simd.Gemm{N: K, K: C, Packed: true, ISA: k.isa}, x, tensorF32(c.Prepared[0]), z, N, nil)
			return []host.Loop{loop(len(products), normRows*(K+1)*C, func(lo, hi int) {
				for p := lo; p < hi; p++ {
					products[p]()
					for i := p * normRows; i < min(N, (p+1)*normRows); i++ {
						simd.MulS(z[i*K:(i+1)*K], z[i*K:(i+1)*K], simd.RMSStd(x[i*C:(i+1)*C], eps))
					}
				}
			})}
		},
	}
}

// packGained packs gain w, w [K,C], as the right operand of x (gain w)^T.
func packGained(dst, gain, w []float32, K int) []host.Loop {
	C := len(gain)
	return []host.Loop{loop((K+panelCols-1)/panelCols, 2*C*panelCols, func(lo, hi int) {
		simd.PackB(dst, w, K, C, true, lo, hi)
		for p := lo; p < hi; p++ {
			for l, g := range gain {
				row := dst[(p*C+l)*panelCols:][:panelCols]
				simd.MulS(row, row, g)
			}
		}
	})}
}

// rowBlocks gives the product of each block of normRows of the N rows of a by
// the packed b, computed on the calling goroutine. Plan g has its N and K.
func rowBlocks(g simd.Gemm, a, b, c []float32, N int, scratch []byte) []func() {
	var all []func()
	for lo := 0; lo < N; lo += normRows {
		g.M = min(normRows, N-lo)
		need := g.ScratchBytes()
		phases := g.Phases(a[lo*g.K:], b, c[lo*g.N:], scratch[:need])
		scratch = scratch[need:]
		all = append(all, func() {
			for _, p := range phases {
				p.Do(0, p.Items)
			}
		})
	}
	return all
}

// normLinearVJP: with u = g (gain w) and r the inverse root mean square of a
// row of x,
//
//	dx = r u - x r^3 sum(x u)/C
//	v  = (r g)^T x,   dw = gain v,   dgain = sum over the rows of w v
func (k parallel) normLinearVJP() host.Kernel {
	product := func(N, C, K int) simd.Gemm { return simd.Gemm{N: C, K: K, Packed: true, ISA: k.isa} }
	weight := func(N, C, K int) simd.Gemm {
		return simd.Gemm{M: K, N: C, K: N, TransA: true, Workers: k.workers, ISA: k.isa}
	}
	return host.Kernel{
		Prepare: func(n *graph.Node) []host.Prepared {
			_, C, K := normSizes(n)
			return []host.Prepared{{
				Key: "avx2 gained columns", Operands: []int{1, 2}, Bytes: 4 * simd.PackedBLen(C, K),
				Fill: func(dst []byte, in []tensor.Tensor) []host.Loop {
					return packGainedColumns(tensorF32(dst), in[0].F32(), in[1].F32(), K)
				},
			}}
		},
		Scratch: func(n *graph.Node) int {
			N, C, K := normSizes(n)
			g, w := product(N, C, K), weight(N, C, K)
			g.M, w.Source = normRows, simd.RowPanels(nil, C)
			return 4*N*K + (N+normRows-1)/normRows*g.ScratchBytes() + w.ScratchBytes()
		},
		Bind: func(c *host.Call) []host.Loop {
			N, C, K := normSizes(c.Node)
			x, gain, w, g := c.In[0].F32(), c.In[1].F32(), c.In[2].F32(), c.In[3].F32()
			dx, dgain, dw := c.Out[0].F32(), c.Out[1].F32(), c.Out[2].F32()
			scaled, rest := tensorF32(c.Scratch[:4*N*K]), c.Scratch[4*N*K:]
			eps := float32(c.Node.Attr.(graph.NormAttr).Eps)
			v := weight(N, C, K)
			v.Source = simd.RowPanels(x, C)
			all := loops(v.Phases(scaled, nil, dw, rest))
			products := rowBlocks(product(N, C, K), g, tensorF32(c.Prepared[0]), dx, N, rest[v.ScratchBytes():])
			rows := loop(len(products), normRows*(K+3)*C, func(lo, hi int) {
				for p := lo; p < hi; p++ {
					products[p]()
					for i := p * normRows; i < min(N, (p+1)*normRows); i++ {
						dx := dx[i*C : (i+1)*C]
						rstd := simd.RMSNormGradRow(dx, x[i*C:(i+1)*C], nil, dx, eps)
						simd.MulS(scaled[i*K:(i+1)*K], g[i*K:(i+1)*K], rstd)
					}
				}
			})
			return append(append([]host.Loop{rows}, all...), gainGrad(dgain, dw, gain, w, K))
		},
	}
}

// packGainedColumns packs gain w, w [K,C], as the right operand of g (gain w).
func packGainedColumns(dst, gain, w []float32, K int) []host.Loop {
	C := len(gain)
	return []host.Loop{loop((C+panelCols-1)/panelCols, 2*K*panelCols, func(lo, hi int) {
		simd.PackB(dst, w, C, K, false, lo, hi)
		for p := lo; p < hi; p++ {
			g := gain[p*panelCols : min(C, (p+1)*panelCols)]
			for l := range K {
				row := dst[(p*K+l)*panelCols:][:len(g)]
				simd.Mul(row, row, g)
			}
		}
	})}
}

// gainGrad turns v [K,C] in dw into dgain = sum over its rows of w v, and dw =
// gain v.
func gainGrad(dgain, dw, gain, w []float32, K int) host.Loop {
	C := len(gain)
	return loop(C, 2*K, func(lo, hi int) {
		sum, gain := dgain[lo:hi], gain[lo:hi]
		clear(sum)
		for l := range K {
			v := dw[l*C+lo : l*C+hi]
			simd.MulAdd(sum, v, w[l*C+lo:l*C+hi], sum)
			simd.Mul(v, v, gain)
		}
	})
}
