package scalar

import (
	"math"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
)

func addRows[F Float](t host.Table) {
	t.Add("rmsnorm", rmsNorm[F]())
	t.Add("rmsnorm.vjp", rmsNormVJP[F]())
	t.Add("softmax", softmax[F]())
	t.Add("softmax.vjp", softmaxVJP[F]())
	t.Add("swiglu", swiGLU[F]())
	t.Add("swiglu.vjp", swiGLUVJP[F]())
	t.Add("crossentropy", crossEntropy[F]())
	t.Add("crossentropy.vjp", crossEntropyVJP[F]())
}

// inverseRMS is 1/sqrt(mean(x^2) + eps).
func inverseRMS[F Float](x []F, eps float64) float64 {
	return 1 / math.Sqrt(dot(x, x)/float64(len(x))+eps)
}

func rmsNorm[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, w, z := view[F](c.In[0]), view[F](c.In[1]), view[F](c.Out[0])
		eps := c.Node.Attr.(graph.NormAttr).Eps
		n, width := rows(c.In[0].Shape)
		return []host.Loop{loop(n, 2*width, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				x, z := x[i*width:(i+1)*width], z[i*width:(i+1)*width]
				r := inverseRMS(x, eps)
				for j, v := range x {
					z[j] = F(float64(v) * r * float64(w[j]))
				}
			}
		})}
	}}
}

// rmsNormVJP: with r = inverseRMS(x) and u = g*w, dx = r*u - x * r^3 * mean(u*x)
// a row, and dw = sum over rows of g*x*r.
func rmsNormVJP[F Float]() host.Kernel {
	scratch := func(n *graph.Node) int {
		rows, _ := rows(n.In[0].Shape())
		return room[float64](rows)
	}
	return host.Kernel{Scratch: scratch, Bind: func(c *host.Call) []host.Loop {
		x, w, g := view[F](c.In[0]), view[F](c.In[1]), view[F](c.In[2])
		dx, dw := view[F](c.Out[0]), view[F](c.Out[1])
		eps := c.Node.Attr.(graph.NormAttr).Eps
		n, width := rows(c.In[0].Shape)
		mem := c.Scratch
		inverse := take[float64](&mem, n)
		return []host.Loop{loop(n, 4*width, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				x, g, dx := x[i*width:(i+1)*width], g[i*width:(i+1)*width], dx[i*width:(i+1)*width]
				r := inverseRMS(x, eps)
				inverse[i] = r
				var ux float64
				for j, v := range x {
					ux += float64(g[j]) * float64(w[j]) * float64(v)
				}
				k := ux * r * r / float64(width)
				for j, v := range x {
					dx[j] = F(r * (float64(g[j])*float64(w[j]) - k*float64(v)))
				}
			}
		}), {Items: (width + band - 1) / band, Grain: max(1, pieceCost/(n*band)), Do: func(lo, hi int) {
			for b := lo; b < hi; b++ {
				var sum [band]float64
				at := b * band
				acc := sum[:min(band, width-at)]
				for i := range n {
					x, g, r := x[i*width+at:][:len(acc)], g[i*width+at:][:len(acc)], inverse[i]
					for j := range acc {
						acc[j] += float64(g[j]) * float64(x[j]) * r
					}
				}
				for j, v := range acc {
					dw[at+j] = F(v)
				}
			}
		}}}
	}}
}

// exponentials sets z to exp(x - max x) and returns the sum of it.
func exponentials[F Float](z, x []F) float64 {
	top, sum := highest(x), 0.0
	for i, v := range x {
		e := math.Exp(float64(v) - top)
		z[i] = F(e)
		sum += e
	}
	return sum
}

// highest is the largest element, NaN if there is one.
func highest[F Float](x []F) float64 {
	top := x[0]
	for _, v := range x {
		top = max(top, v)
	}
	return float64(top)
}

func softmax[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, z := view[F](c.In[0]), view[F](c.Out[0])
		n, width := rows(c.In[0].Shape)
		return []host.Loop{loop(n, 10*width, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				z := z[i*width : (i+1)*width]
				sum := exponentials(z, x[i*width:(i+1)*width])
				for j := range z {
					z[j] = F(float64(z[j]) / sum)
				}
			}
		})}
	}}
}

// softmaxVJP: with p = softmax(x), dx = p * (g - sum(p*g)).
func softmaxVJP[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, g, dx := view[F](c.In[0]), view[F](c.In[1]), view[F](c.Out[0])
		n, width := rows(c.In[0].Shape)
		return []host.Loop{loop(n, 10*width, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				g, dx := g[i*width:(i+1)*width], dx[i*width:(i+1)*width]
				sum := exponentials(dx, x[i*width:(i+1)*width])
				mean := dot(dx, g) / sum
				for j := range dx {
					dx[j] = F(float64(dx[j]) / sum * (float64(g[j]) - mean))
				}
			}
		})}
	}}
}

func swiGLU[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		gate, up, z := view[F](c.In[0]), view[F](c.In[1]), view[F](c.Out[0])
		return []host.Loop{loop(len(z), 10, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				x := float64(gate[i])
				z[i] = F(x * sigmoid(x) * float64(up[i]))
			}
		})}
	}}
}

// swiGLUVJP: with s = sigmoid(gate), d gate = g * up * s * (1 + gate*(1-s)) and
// d up = g * gate * s. Each element is read before the results, which may lie
// over the operands, are written.
func swiGLUVJP[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		gate, up, g := view[F](c.In[0]), view[F](c.In[1]), view[F](c.In[2])
		dGate, dUp := view[F](c.Out[0]), view[F](c.Out[1])
		return []host.Loop{loop(len(g), 12, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				x, u, g := float64(gate[i]), float64(up[i]), float64(g[i])
				s := sigmoid(x)
				dGate[i] = F(g * u * s * (1 + x*(1-s)))
				dUp[i] = F(g * x * s)
			}
		})}
	}}
}

// logSumExp is log(sum(exp(x))).
func logSumExp[F Float](x []F) float64 {
	top, sum := highest(x), 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}

func crossEntropy[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, target, z := view[F](c.In[0]), c.In[1].I32(), view[F](c.Out[0])
		n, width := c.In[0].Shape[0], c.In[0].Shape[1]
		check := checkRange(c, "target", target, width, true)
		return []host.Loop{check, loop(n, 8*width, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				z[i] = 0
				if t := int(target[i]); t >= 0 && t < width {
					row := x[i*width : (i+1)*width]
					z[i] = F(logSumExp(row) - float64(row[t]))
				}
			}
		})}
	}}
}

// crossEntropyVJP: d logits = g * (softmax(logits) - onehot(target)) a row. The
// result may lie over the logits.
func crossEntropyVJP[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, target, g, dx := view[F](c.In[0]), c.In[1].I32(), view[F](c.In[2]), view[F](c.Out[0])
		n, width := c.In[0].Shape[0], c.In[0].Shape[1]
		check := checkRange(c, "target", target, width, true)
		return []host.Loop{check, loop(n, 16*width, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				x, dx, g, t := x[i*width:(i+1)*width], dx[i*width:(i+1)*width], float64(g[i]), int(target[i])
				if t < 0 || t >= width {
					clear(dx)
					continue
				}
				total := logSumExp(x)
				for j, v := range x {
					p := math.Exp(float64(v) - total)
					if j == t {
						p--
					}
					dx[j] = F(g * p)
				}
			}
		})}
	}}
}
