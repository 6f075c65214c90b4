package avx2

import (
	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
)

func addReductions(t host.Table) {
	t.Add("sum", sum())
	t.Add("amax", rowMax())
}

// split gives the counts of elements before, along and after a node's axis.
func split(n *graph.Node) (outer, along, inner int) {
	s, axis := n.In[0].Shape(), n.Attr.(graph.AxisAttr).Axis
	return s[:axis].Numel(), s[axis], s[axis+1:].Numel()
}

// chunk is how many elements of a long row are added up in one piece: a
// constant, so the order of a sum depends on its length alone.
const chunk = 1 << 14

// short is the length below which a row is summed as other axes are, from the
// first element to the last: then the bits do not depend on how many rows there
// are, or columns.
const short = 16

// sum adds along an axis: long rows by lanes, other axes row by row.
func sum() host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			_, along, inner := split(n)
			return along < short || inner == 1 || inner >= 8
		},
		Scratch: func(n *graph.Node) int {
			outer, along, inner := split(n)
			if outer == 1 && inner == 1 && along > chunk {
				return 4 * roundUp(along, chunk) / chunk
			}
			return 0
		},
		Bind: func(c *host.Call) []host.Loop {
			outer, along, inner := split(c.Node)
			x, z := c.In[0].F32(), c.Out[0].F32()
			switch {
			case outer == 1 && inner == 1 && along > chunk:
				return sumLong(x, z, tensorF32(c.Scratch))
			case inner < 8 && along < short:
				return []host.Loop{loop(outer, along*inner, func(lo, hi int) { sumShort(z, x, along, inner, lo, hi) })}
			case inner == 1:
				return []host.Loop{loop(outer, along, func(lo, hi int) {
					for i := lo; i < hi; i++ {
						z[i] = simd.Sum(x[i*along : (i+1)*along])
					}
				})}
			}
			return []host.Loop{loop(outer, along*inner, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					to := z[i*inner : (i+1)*inner]
					copy(to, x[i*along*inner:])
					for j := 1; j < along; j++ {
						simd.Add(to, to, x[(i*along+j)*inner:])
					}
				}
			})}
		},
	}
}

// sumShort adds along an axis of few elements with few after it.
func sumShort(z, x []float32, along, inner, lo, hi int) {
	for i := lo; i < hi; i++ {
		for k := range inner {
			from := x[i*along*inner+k:]
			acc := from[0]
			for j := 1; j < along; j++ {
				acc += from[j*inner]
			}
			z[i*inner+k] = acc
		}
	}
}

// sumLong adds up one long row, chunk by chunk.
func sumLong(x, z, parts []float32) []host.Loop {
	n := roundUp(len(x), chunk) / chunk
	return []host.Loop{
		{Items: n, Grain: 2, Do: func(lo, hi int) {
			for i := lo; i < hi; i++ {
				parts[i] = simd.Sum(x[i*chunk : min((i+1)*chunk, len(x))])
			}
		}},
		{Items: 1, Do: func(_, _ int) { z[0] = simd.Sum(parts[:n]) }},
	}
}

// rowMax is the maximum of rows.
func rowMax() host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			_, along, inner := split(n)
			return inner == 1 && along >= 8
		},
		Bind: func(c *host.Call) []host.Loop {
			outer, along, _ := split(c.Node)
			x, z := c.In[0].F32(), c.Out[0].F32()
			return []host.Loop{loop(outer, along, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					z[i] = simd.MaxValue(x[i*along : (i+1)*along])
				}
			})}
		},
	}
}
