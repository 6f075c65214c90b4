package scalar

import (
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
)

func addReductions[F Float](t host.Table) {
	t.Add("sum", reduce[F](func(a, b float64) float64 { return a + b }))
	t.Add("amax", reduce[F](func(a, b float64) float64 { return max(a, b) }))
}

// band is how many neighboring columns are reduced together, so that memory
// is read in order.
const band = 64

// reduce folds an axis by f in float64, first element to last.
func reduce[F Float](f func(a, b float64) float64) host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, z := view[F](c.In[0]), view[F](c.Out[0])
		_, n, inner := split(c.In[0].Shape, c.Node.Attr.(graph.AxisAttr).Axis)
		return []host.Loop{loop(len(z), n, func(lo, hi int) {
			for lo < hi {
				o, k := lo/inner, lo%inner
				width := min(band, inner-k, hi-lo)
				var acc [band]float64
				a := acc[:width]
				for j := range n {
					row := x[(o*n+j)*inner+k:][:len(a)]
					if j == 0 {
						for i := range a {
							a[i] = float64(row[i])
						}
						continue
					}
					for i := range a {
						a[i] = f(a[i], float64(row[i]))
					}
				}
				for i, v := range a {
					z[lo+i] = F(v)
				}
				lo += width
			}
		})}
	}}
}
