package scalar

import (
	"math"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
)

// rope rotates the pairs (2i, 2i+1) of operand `of` by sign times the angle
// (pos+t) * theta^(-2i/D) / factor; the pullback is the rotation back.
func rope[F Float](sign float64, of int) host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, pos, z := view[F](c.In[of]), c.In[1].I32(), view[F](c.Out[0])
		s := c.Out[0].Shape
		T, H, D := s[1], s[2], s[3]
		freq := c.Node.Attr.(graph.RoPEAttr).Frequencies(D)
		return []host.Loop{loop(s[0]*T, D*(H+20), func(lo, hi int) {
			for r := lo; r < hi; r++ {
				at := float64(int(pos[r/T]) + r%T)
				for i, f := range freq {
					sin, cos := math.Sincos(at * f)
					sin *= sign
					for h := range H {
						k := (r*H+h)*D + 2*i
						even, odd := float64(x[k]), float64(x[k+1])
						z[k], z[k+1] = F(even*cos-odd*sin), F(even*sin+odd*cos)
					}
				}
			}
		})}
	}}
}
