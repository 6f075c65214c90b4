package avx2

import (
	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

const (
	// halfTokens is the number of tokens up to which f16 rows are multiplied as
	// they are; from there on a panel made of them pays.
	halfTokens = 2
	// halfRows is the number of f16 rows that are handed out together at least.
	halfRows = 32
)

// halfMatMul multiplies tokens by f16 weights [N,K], which never stand in
// memory as f32. Both ways sum over K in the order of every other product.
func (k parallel) halfMatMul() host.Kernel {
	plan := func(n *graph.Node) simd.Gemm {
		g := k.gemmOf(n)
		g.Source = func([]float32, int, int, int, int) {} // it counts for the plan's sizes
		return g
	}
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			g := k.gemmOf(n)
			return n.In[1].Type().DType == tensor.F16 && len(n.In[0].Shape()) == 2 && !g.TransA && g.TransB && g.K%8 == 0 && g.K > 0
		},
		Scratch: func(n *graph.Node) int {
			g := plan(n)
			if g.M <= halfTokens {
				return 0
			}
			return g.ScratchBytes() + k.halfAreas(g)
		},
		Bind: func(c *host.Call) []host.Loop {
			g, x, z := plan(c.Node), c.In[0].F32(), c.Out[0].F32()
			w := simd.Rows{F16: c.In[1].U16()}
			if g.M <= halfTokens {
				return []host.Loop{loop((g.N+halfRows-1)/halfRows, g.M*g.K*halfRows/4, func(lo, hi int) {
					lo, hi = lo*halfRows, min(hi*halfRows, g.N)
					for ; lo < hi; lo += halfRows { // the rows stay near from one token to the next
						to := min(lo+halfRows, hi)
						for i := range g.M {
							w.Dots(z[i*g.N+lo:], x[i*g.K:(i+1)*g.K], g.K, lo, to)
						}
					}
				})}
			}
			var slots simd.Slots
			slots.Init(k.workers, panelCols*g.K, tensorF32(c.Scratch[:k.halfAreas(g)]))
			g.Source = func(dst []float32, lo, hi, k0, steps int) {
				slot, area := slots.Take()
				defer slots.Give(slot)
				w.PackPanels(dst, area, g.N, g.K, lo, hi, k0, steps)
			}
			return loops(g.Phases(x, nil, z, c.Scratch[k.halfAreas(g):]))
		},
	}
}

// halfAreas is the bytes of the memory in which rows of a panel are widened.
func (k parallel) halfAreas(g simd.Gemm) int { return roundUp(4*k.workers*panelCols*g.K, 64) }
