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

// encodeBook packs rows of whole bytes of four-bit codes over any levels that ascend.
func encodeBook() host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			s := n.Out[0].Shape
			if n.Out[0].DType != tensor.U4 || len(s) == 0 || s[len(s)-1]%2 != 0 {
				return false
			}
			_, ok := simd.NewEncoder(n.Attr.(graph.CodeAttr).Levels)
			return ok
		},
		Bind: func(c *host.Call) []host.Loop {
			e, _ := simd.NewEncoder(c.Node.Attr.(graph.CodeAttr).Levels)
			x, codes := c.In[0].F32(), c.Out[0].Data
			return []host.Loop{loop(len(codes), 1, func(lo, hi int) { e.Encode(codes[lo:hi], x[2*lo:2*hi]) })}
		},
	}
}
