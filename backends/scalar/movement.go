package scalar

import (
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func addMovement[F Float](t host.Table) {
	t.Add("transpose", host.Kernel{Bind: transpose})
	t.Add("broadcast", broadcast[F]())
	t.Add("slice", slice[F]())
	t.Add("pad", pad[F]())
	t.Add("concat", concat[F]())
}

// transpose moves elements of any encoding, by their size alone.
func transpose(c *host.Call) []host.Loop {
	w := transposeWalk(c.In[0].Shape, c.Node.Attr.(graph.DimsAttr).Dims)
	x, z := c.In[0].Data, c.Out[0].Data
	switch len(z) / c.Out[0].Shape.Numel() {
	case 1:
		return permute(w, x, z)
	case 2:
		return permute(w, tensor.View[uint16](x), tensor.View[uint16](z))
	case 4:
		return permute(w, tensor.View[uint32](x), tensor.View[uint32](z))
	}
	return permute(w, tensor.View[uint64](x), tensor.View[uint64](z))
}

func permute[E any](w *walk, x, z []E) []host.Loop {
	s := w.inner()[0]
	return []host.Loop{loop(len(z), 2, func(lo, hi int) {
		w.each(lo, hi, func(lo, n int, at [3]int) {
			z, x := z[lo:lo+n], x[at[0]:]
			for i := range z {
				z[i] = x[i*s]
			}
		})
	})}
}

func broadcast[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		return permute(broadcastWalk(c.Node), view[F](c.In[0]), view[F](c.Out[0]))
	}}
}

func slice[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, z, a := view[F](c.In[0]), view[F](c.Out[0]), c.Node.Attr.(graph.SliceAttr)
		outer, n, inner := split(c.In[0].Shape, a.Axis)
		width := (a.Hi - a.Lo) * inner
		return []host.Loop{loop(outer, width, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				copy(z[i*width:(i+1)*width], x[(i*n+a.Lo)*inner:])
			}
		})}
	}}
}

func pad[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, z, a := view[F](c.In[0]), view[F](c.Out[0]), c.Node.Attr.(graph.PadAttr)
		outer, n, inner := split(c.In[0].Shape, a.Axis)
		width, before := (a.Before+n+a.After)*inner, a.Before*inner
		return []host.Loop{loop(outer, width, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				row := z[i*width : (i+1)*width]
				clear(row[:before])
				copy(row[before:], x[i*n*inner:(i+1)*n*inner])
				clear(row[before+n*inner:])
			}
		})}
	}}
}

func concat[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		z, axis := view[F](c.Out[0]), c.Node.Attr.(graph.AxisAttr).Axis
		outer, n, inner := split(c.Out[0].Shape, axis)
		var loops []host.Loop
		at := 0
		for _, t := range c.In {
			x, from, width := view[F](t), at, t.Shape[axis]*inner
			loops = append(loops, loop(outer, width, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					copy(z[i*n*inner+from:], x[i*width:(i+1)*width])
				}
			}))
			at += width
		}
		return loops
	}}
}
