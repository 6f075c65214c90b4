package scalar

import (
	"fmt"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func addIndexing[F Float](t host.Table) {
	t.Add("gather", gather[F]())
	t.Add("scatteradd", scatterAdd[F]())
	t.Add("updateat", updateAt[F]())
}

// checkRange fails the run when an id is limit or more, or negative unless
// that has a meaning. It runs before the loops that use the ids, which skip
// what is out of range.
func checkRange(c *host.Call, what string, ids []int32, limit int, negative bool) host.Loop {
	return once(func() {
		for i, id := range ids {
			if int(id) >= limit || id < 0 && !negative {
				c.Fail(fmt.Errorf("%s %d (number %d) is out of range, wants less than %d", what, id, i, limit))
				return
			}
		}
	})
}

func gather[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		table, ids, z := c.In[0], c.In[1].I32(), view[F](c.Out[0])
		n, width := table.Shape[0], len(z)/len(ids)
		return []host.Loop{checkRange(c, "id", ids, n, false), loop(len(ids), width, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				row, id := z[i*width:(i+1)*width], int(ids[i])
				if id < 0 || id >= n {
					clear(row)
					continue
				}
				widen(row, table, id*width)
			}
		})}
	}}
}

// scatterAdd adds rows in their order, in F; the work is cut over columns
// because rows may meet in one.
func scatterAdd[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, ids, z := view[F](c.In[0]), c.In[1].I32(), view[F](c.Out[0])
		n, width := c.Out[0].Shape[0], len(x)/len(ids)
		return []host.Loop{checkRange(c, "id", ids, n, false), fill(z, 0), {
			Items: width, Grain: max(band, pieceCost/len(ids)), Do: func(lo, hi int) {
				for i, id := range ids {
					if id < 0 || int(id) >= n {
						continue
					}
					from, to := x[i*width+lo:i*width+hi], z[int(id)*width+lo:]
					for j, v := range from {
						to[j] += v
					}
				}
			},
		}}
	}}
}

func updateAt[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		dst, src, pos, z := c.In[0], view[F](c.In[1]), c.In[2].I32(), c.Out[0]
		axis := c.Node.Attr.(graph.AxisAttr).Axis
		outer, n, inner := split(dst.Shape, axis)
		count := c.In[1].Shape[axis]
		width, perBatch, last := count*inner, outer/len(pos), n-count
		loops := []host.Loop{checkRange(c, "position", pos, last+1, false)}
		if &z.Data[0] != &dst.Data[0] {
			loops = append(loops, loop(len(z.Data), 1, func(lo, hi int) { copy(z.Data[lo:hi], dst.Data[lo:hi]) }))
		}
		return append(loops, loop(outer, width, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				if p := int(pos[i/perBatch]); p >= 0 && p <= last {
					narrow(z, (i*n+p)*inner, src[i*width:(i+1)*width])
				}
			}
		}))
	}}
}

// narrow writes x to the elements of t from at on; t is f32 or f16.
func narrow[F Float](t tensor.Tensor, at int, x []F) {
	if t.DType == tensor.F16 {
		to := t.U16()[at : at+len(x)]
		for i, v := range x {
			to[i] = tensor.F32ToF16(float32(v))
		}
		return
	}
	copy(view[F](t)[at:], x)
}
