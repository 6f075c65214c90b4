package avx2

import (
	"fmt"

	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

const (
	// halfTokens is the number of tokens up to which f16 panels are multiplied as
	// they are; from there on f32 panels made of them pay.
	halfTokens = 2
	// halfPanels is the number of f16 panels that are handed out together at least.
	halfPanels = 2
)

// prepareHalf lays the f16 rows of operand i of n in panels. The head of a model
// and its embedding share them, where they are one table.
func prepareHalf(n *graph.Node, i int) []host.Prepared {
	rows, k := n.In[i].Dim(0), n.In[i].Dim(1)
	return []host.Prepared{{
		Key: "avx2 half panels", Operands: []int{i}, Bytes: 2 * simd.HalfPanelLen(rows, k), Sole: true, InPlace: true,
		Fill: func(dst []byte, in []tensor.Tensor) []host.Loop {
			p, src := simd.HalfPanels(tensor.View[uint16](dst)), in[0].U16()
			if &p[0] != &src[0] {
				return []host.Loop{loop(panelsOf(rows), panelCols*k, func(lo, hi int) { p.Pack(src, rows, k, lo, hi) })}
			}
			// Each panel is made where its rows are.
			return []host.Loop{loop(panelsOf(rows), panelCols*k, func(lo, hi int) {
				area := make([]uint16, panelCols*k)
				for ; lo < hi; lo++ {
					n := min(panelCols, rows-lo*panelCols)
					copy(area, src[lo*panelCols*k:(lo*panelCols+n)*k])
					p[lo*panelCols*k:].Pack(area, n, k, 0, 1)
				}
			})}
		},
	}}
}

// panelsOf is the number of panels of so many rows.
func panelsOf(rows int) int { return (rows + panelCols - 1) / panelCols }

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
			return n.In[1].Type().DType == tensor.F16 && len(n.In[0].Shape()) == 2 && !g.TransA && g.TransB && g.K > 0
		},
		Prepare: func(n *graph.Node) []host.Prepared { return prepareHalf(n, 1) },
		Scratch: func(n *graph.Node) int {
			g := plan(n)
			if g.M <= halfTokens {
				return 0
			}
			return g.ScratchBytes()
		},
		Bind: func(c *host.Call) []host.Loop {
			g, x, z := plan(c.Node), c.In[0].F32(), c.Out[0].F32()
			w := simd.HalfPanels(tensor.View[uint16](c.Prepared[0]))
			if g.M > halfTokens {
				g.Source = func(dst []float32, lo, hi, k0, steps int) { w.PackPanels(dst, g.K, lo, hi, k0, steps) }
				return loops(g.Phases(x, nil, z, c.Scratch))
			}
			return []host.Loop{loop((panelsOf(g.N)+halfPanels-1)/halfPanels, g.M*g.K*halfPanels*panelCols/4, func(lo, hi int) {
				lo, hi = lo*halfPanels, min(hi*halfPanels, panelsOf(g.N))
				for ; lo < hi; lo += halfPanels { // the panels stay near from one token to the next
					to := min(lo+halfPanels, hi)
					for i := range g.M {
						w.Dots(z[i*g.N+lo*panelCols:(i+1)*g.N], x[i*g.K:(i+1)*g.K], g.N, g.K, lo, to)
					}
				}
			})}
		},
	}
}

// halfGather takes rows out of an f16 table that lies in panels.
func halfGather() host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			return n.In[0].Type().DType == tensor.F16 && len(n.In[0].Shape()) == 2 && n.In[0].Dim(1) > 0
		},
		Prepare: func(n *graph.Node) []host.Prepared { return prepareHalf(n, 0) },
		Bind: func(c *host.Call) []host.Loop {
			rows, k := c.Node.In[0].Dim(0), c.Node.In[0].Dim(1)
			table, ids, z := simd.HalfPanels(tensor.View[uint16](c.Prepared[0])), c.In[1].I32(), c.Out[0].F32()
			check := host.Loop{Items: 1, Do: func(_, _ int) {
				for i, id := range ids {
					if id < 0 || int(id) >= rows {
						c.Fail(fmt.Errorf("id %d (number %d) is out of range, wants less than %d", id, i, rows))
						return
					}
				}
			}}
			return []host.Loop{check, loop(len(ids), k, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					row, id := z[i*k:(i+1)*k], int(ids[i])
					if id < 0 || id >= rows {
						clear(row)
						continue
					}
					table.Row(row, k, id)
				}
			})}
		},
	}
}
