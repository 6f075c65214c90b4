package scalar

import (
	"math"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func addElementwise[F Float](t host.Table) {
	t.Add("neg", unary[F](func(x float64) float64 { return -x }))
	t.Add("exp", unary[F](math.Exp))
	t.Add("log", unary[F](math.Log))
	t.Add("sqrt", unary[F](math.Sqrt))
	t.Add("rsqrt", unary[F](func(x float64) float64 { return 1 / math.Sqrt(x) }))
	t.Add("sin", unary[F](math.Sin))
	t.Add("cos", unary[F](math.Cos))
	t.Add("abs", unary[F](math.Abs))
	t.Add("sigmoid", unary[F](sigmoid))
	t.Add("round", unary[F](math.RoundToEven))
	t.Add("scale", scale[F]())
	t.Add("cast", cast[F]())
	t.Add("add", binary(func(x, y F) F { return x + y }))
	t.Add("sub", binary(func(x, y F) F { return x - y }))
	t.Add("mul", binary(func(x, y F) F { return x * y }))
	t.Add("div", binary(func(x, y F) F { return x / y }))
	t.Add("max", binary(func(x, y F) F { return max(x, y) }))
	t.Add("min", binary(func(x, y F) F { return min(x, y) }))
	t.Add("less", compare(func(x, y F) bool { return x < y }))
	t.Add("equal", compare(func(x, y F) bool { return x == y }))
	t.Add("where", where[F]())
	t.Add("const", constant[F]())
	t.Add("iota", counting[F]())
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// unary applies f, computed in float64, to each element.
func unary[F Float](f func(float64) float64) host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, z := view[F](c.In[0]), view[F](c.Out[0])
		return []host.Loop{loop(len(z), 8, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				z[i] = F(f(float64(x[i])))
			}
		})}
	}}
}

// scale multiplies by a constant that is first rounded to F.
func scale[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, z, by := view[F](c.In[0]), view[F](c.Out[0]), F(c.Node.Attr.(graph.ConstAttr).Value)
		return []host.Loop{loop(len(z), 1, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				z[i] = x[i] * by
			}
		})}
	}}
}

// binary applies f with broadcasting. Where the result has an operand's
// memory, that operand is not broadcast: element i is read before it is
// written, and by element i alone.
func binary[F Float](f func(x, y F) F) host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, y, z := view[F](c.In[0]), view[F](c.In[1]), view[F](c.Out[0])
		w := broadcastWalk(c.Node)
		sx, sy := w.inner()[0], w.inner()[1]
		return []host.Loop{loop(len(z), 2, func(lo, hi int) {
			w.each(lo, hi, func(lo, n int, at [3]int) {
				z, x, y := z[lo:lo+n], x[at[0]:], y[at[1]:]
				switch {
				case sx == 1 && sy == 1:
					x, y = x[:len(z)], y[:len(z)]
					for i := range z {
						z[i] = f(x[i], y[i])
					}
				default:
					for i := range z {
						z[i] = f(x[i*sx], y[i*sy])
					}
				}
			})
		})}
	}}
}

// compare applies f with broadcasting and gives bytes of 0 and 1.
func compare[F Float](f func(x, y F) bool) host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, y, z := view[F](c.In[0]), view[F](c.In[1]), c.Out[0].Data
		w := broadcastWalk(c.Node)
		sx, sy := w.inner()[0], w.inner()[1]
		return []host.Loop{loop(len(z), 2, func(lo, hi int) {
			w.each(lo, hi, func(lo, n int, at [3]int) {
				z, x, y := z[lo:lo+n], x[at[0]:], y[at[1]:]
				for i := range z {
					z[i] = 0
					if f(x[i*sx], y[i*sy]) {
						z[i] = 1
					}
				}
			})
		})}
	}}
}

func where[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		p, x, y, z := c.In[0].Data, view[F](c.In[1]), view[F](c.In[2]), view[F](c.Out[0])
		w := broadcastWalk(c.Node)
		s := w.inner()
		return []host.Loop{loop(len(z), 2, func(lo, hi int) {
			w.each(lo, hi, func(lo, n int, at [3]int) {
				z, p, x, y := z[lo:lo+n], p[at[0]:], x[at[1]:], y[at[2]:]
				for i := range z {
					if p[i*s[0]] != 0 {
						z[i] = x[i*s[1]]
					} else {
						z[i] = y[i*s[2]]
					}
				}
			})
		})}
	}}
}

// cast converts between F and the other encodings, through float32 where the
// other side is a half.
func cast[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, z := c.In[0], c.Out[0]
		n := z.Shape.Numel()
		var do func(lo, hi int)
		switch {
		case z.DType != tensor.F32:
			from, to, narrow := view[F](x), z.U16(), tensor.F32ToF16
			if z.DType == tensor.BF16 {
				narrow = tensor.F32ToBF16
			}
			do = func(lo, hi int) {
				for i := lo; i < hi; i++ {
					to[i] = narrow(float32(from[i]))
				}
			}
		case x.DType == tensor.I32:
			from, to := x.I32(), view[F](z)
			do = func(lo, hi int) {
				for i := lo; i < hi; i++ {
					to[i] = F(from[i])
				}
			}
		case x.DType == tensor.Bool:
			from, to := x.Data, view[F](z)
			do = func(lo, hi int) {
				for i := lo; i < hi; i++ {
					to[i] = F(from[i])
				}
			}
		default:
			to := view[F](z)
			do = func(lo, hi int) { widen(to[lo:hi], x, lo) }
		}
		return []host.Loop{loop(n, 2, do)}
	}}
}

// widen sets dst to the elements of t from at on; t is f32, f16 or bf16.
func widen[F Float](dst []F, t tensor.Tensor, at int) {
	switch t.DType {
	case tensor.F16:
		widenHalves(dst, t.U16()[at:at+len(dst)])
	case tensor.BF16:
		for i, h := range t.U16()[at : at+len(dst)] {
			dst[i] = F(tensor.BF16ToF32(h))
		}
	default:
		copy(dst, view[F](t)[at:])
	}
}

// widenHalves is tensor.F16ToF32 of each element, in a form that is inlined.
func widenHalves[F Float](dst []F, src []uint16) {
	dst = dst[:len(src)]
	for i, h := range src {
		// The fraction and exponent as they are, then the exponent's bias.
		v := math.Float32frombits(uint32(h&0x7fff)<<13) * 0x1p112
		if h&0x7c00 == 0x7c00 { // infinity or NaN
			v = tensor.F16ToF32(h & 0x7fff)
		}
		dst[i] = F(math.Float32frombits(math.Float32bits(v) | uint32(h&0x8000)<<16))
	}
}

func constant[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		a := c.Node.Attr.(graph.ConstAttr)
		if z := c.Out[0]; z.DType == tensor.I32 {
			return constantOf(z.I32(), a)
		}
		return constantOf(view[F](c.Out[0]), a)
	}}
}

// constantOf fills z with the one value of a, or with its list.
func constantOf[E ~int32 | ~float32 | ~float64](z []E, a graph.ConstAttr) []host.Loop {
	if len(a.Values) == 0 {
		return []host.Loop{fill(z, E(a.Value))}
	}
	return []host.Loop{once(func() {
		for i, v := range a.Values {
			z[i] = E(v)
		}
	})}
}

func fill[E any](z []E, v E) host.Loop {
	return loop(len(z), 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			z[i] = v
		}
	})
}

func counting[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		z := view[F](c.Out[0])
		return []host.Loop{loop(len(z), 1, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				z[i] = F(i)
			}
		})}
	}}
}
