package avx2

import (
	"math"
	"slices"

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
			return []host.Loop{loop(len(codes), 8, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					v := x[4*i : 4*i+4 : 4*i+4]
					codes[i] = ternaryCode(v[0]) | ternaryCode(v[1])<<2 | ternaryCode(v[2])<<4 | ternaryCode(v[3])<<6
				}
			})}
		},
	}
}

// ternaryCode is 0, 1 or 2 for the level nearest to v, without a branch: codes
// of weights are as good as random.
func ternaryCode(v float32) byte {
	b := math.Float32bits(v)
	far := (0x3f000000 - b&0x7fffffff) >> 31 // 1 where |v| > 0.5
	return byte(1 + far - 2*(far&(b>>31)))
}
