package avx2

import (
	"slices"

	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// encodeTernary packs rows of whole bytes of two-bit codes over -1, 0, 1.
func encodeTernary() host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			s := n.Out[0].Shape
			return n.Out[0].DType == tensor.U2 && len(s) > 0 && s[len(s)-1]%4 == 0 &&
				slices.Equal(n.Attr.(graph.CodeAttr).Levels, []int8{-1, 0, 1})
		},
		Bind: func(c *host.Call) []host.Loop {
			x, codes := c.In[0].F32(), c.Out[0].Data
			return []host.Loop{loop(len(codes), 1, func(lo, hi int) { simd.EncodeTernary(codes[lo:hi], x[4*lo:4*hi]) })}
		},
	}
}

// encodeBook packs rows of whole bytes of one- or four-bit codes over any levels that ascend.
func encodeBook() host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			s, per := n.Out[0].Shape, n.Out[0].DType.Block()
			if len(s) == 0 || s[len(s)-1]%per != 0 {
				return false
			}
			_, ok := simd.NewEncoder(n.Attr.(graph.CodeAttr).Levels, 8/per)
			return ok
		},
		Bind: func(c *host.Call) []host.Loop {
			per := c.Out[0].DType.Block()
			e, _ := simd.NewEncoder(c.Node.Attr.(graph.CodeAttr).Levels, 8/per)
			x, codes := c.In[0].F32(), c.Out[0].Data
			return []host.Loop{loop(len(codes), 1, func(lo, hi int) { e.Encode(codes[lo:hi], x[per*lo:per*hi]) })}
		},
	}
}

// encodeLevels rounds to int8 levels.
func encodeLevels() host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool { return n.Out[0].DType == tensor.I8 },
		Bind: func(c *host.Call) []host.Loop {
			x, levels := c.In[0].F32(), c.Out[0].I8()
			return []host.Loop{loop(len(levels), 1, func(lo, hi int) { simd.EncodeLevels(levels[lo:hi], x[lo:hi]) })}
		},
	}
}
