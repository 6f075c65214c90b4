package scalar

import (
	"math"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
)

func addStreams[F Float](t host.Table) {
	t.Add("streamread", streamRead[F]())
	t.Add("streamread.vjp", streamReadVJP[F]())
	t.Add("streamwrite", streamWrite[F]())
	t.Add("streamwrite.vjp", streamWriteVJP[F]())
}

// static reports whether the coefficients of n are the same for all rows.
func static(n *graph.Node) bool {
	if len(n.In) < 4 { // streamread and its pullback
		return len(n.In[1].Shape()) == 1
	}
	return len(n.In[2].Shape()) == 2 && len(n.In[3].Shape()) == 1
}

func streamRead[F Float]() host.Kernel {
	return host.Kernel{Supports: static, Bind: func(c *host.Call) []host.Loop {
		s, pre, z := view[F](c.In[0]), view[F](c.In[1]), view[F](c.Out[0])
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		return []host.Loop{loop(N, S*C, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				s := s[n*S*C : (n+1)*S*C]
				for k := range C {
					sum := 0.0
					for i := range S {
						sum += float64(pre[i]) * float64(s[i*C+k])
					}
					z[n*C+k] = F(sum)
				}
			}
		})}
	}}
}

// streamReadVJP: ds_i = pre_i g and dpre_i = sum(s_i * g).
func streamReadVJP[F Float]() host.Kernel {
	return host.Kernel{Supports: static, Bind: func(c *host.Call) []host.Loop {
		s, pre, g := view[F](c.In[0]), view[F](c.In[1]), view[F](c.In[2])
		ds, dpre := view[F](c.Out[0]), view[F](c.Out[1])
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		return []host.Loop{loop(N, S*C, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				for i := range S {
					for k, v := range g[n*C : (n+1)*C] {
						ds[(n*S+i)*C+k] = F(float64(pre[i]) * float64(v))
					}
				}
			}
		}), loop(S, N*C, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				sum := 0.0
				for n := range N {
					sum += dot(s[(n*S+i)*C:(n*S+i+1)*C], g[n*C:(n+1)*C])
				}
				dpre[i] = F(sum)
			}
		})}
	}}
}

// streamWrite may write over the streams: the S elements of a column are read
// before one of them is written.
func streamWrite[F Float]() host.Kernel {
	scratch := func(n *graph.Node) int { return room[float64](n.In[0].Shape()[:2].Numel()) }
	return host.Kernel{Supports: static, Scratch: scratch, Bind: func(c *host.Call) []host.Loop {
		s, y, h, post := view[F](c.In[0]), view[F](c.In[1]), view[F](c.In[2]), view[F](c.In[3])
		z, mem := view[F](c.Out[0]), c.Scratch
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		columns := take[float64](&mem, N*S)
		return []host.Loop{loop(N, S*S*C, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				s, z, column := s[n*S*C:(n+1)*S*C], z[n*S*C:(n+1)*S*C], columns[n*S:(n+1)*S]
				for k := range C {
					for j := range column {
						column[j] = float64(s[j*C+k])
					}
					for i := range S {
						sum := 0.0
						for j, v := range column {
							sum += float64(h[i*S+j]) * v
						}
						z[i*C+k] = F(sum + float64(post[i])*float64(y[n*C+k]))
					}
				}
			}
		})}
	}}
}

// streamWriteVJP: ds_j = sum_i h_ij g_i, dy = sum_i post_i g_i, dh_ij = sum(g_i *
// s_j) and dpost_i = sum(g_i * y).
func streamWriteVJP[F Float]() host.Kernel {
	return host.Kernel{Supports: static, Bind: func(c *host.Call) []host.Loop {
		s, y, h, post, g := view[F](c.In[0]), view[F](c.In[1]), view[F](c.In[2]), view[F](c.In[3]), view[F](c.In[4])
		ds, dy, dh, dpost := view[F](c.Out[0]), view[F](c.Out[1]), view[F](c.Out[2]), view[F](c.Out[3])
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		stream := func(x []F, n, i int) []F { return x[(n*S+i)*C : (n*S+i+1)*C] }
		return []host.Loop{loop(N, S*S*C, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				g := g[n*S*C : (n+1)*S*C]
				for k := range C {
					for j := range S {
						ds[(n*S+j)*C+k] = F(column(h[j:], S, g[k:], C, S))
					}
					dy[n*C+k] = F(column(post, 1, g[k:], C, S))
				}
			}
		}), loop(S*(S+1), N*C, func(lo, hi int) {
			for item := lo; item < hi; item++ {
				i, j, sum := item/(S+1), item%(S+1), 0.0
				for n := range N {
					if j < S {
						sum += dot(stream(g, n, i), stream(s, n, j))
					} else {
						sum += dot(stream(g, n, i), y[n*C:(n+1)*C])
					}
				}
				if j < S {
					dh[i*S+j] = F(sum)
				} else {
					dpost[i] = F(sum)
				}
			}
		})}
	}}
}

// column is the sum of n products of elements of x and y that are so far apart.
func column[F Float](x []F, dx int, y []F, dy, n int) float64 {
	sum := 0.0
	for i := range n {
		sum += float64(x[i*dx]) * float64(y[i*dy])
	}
	return sum
}

// adamW computes an element in float64 and rounds once a result. Results may
// lie over p, m and v.
func adamW[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		p, g, m, v := view[F](c.In[0]), view[F](c.In[1]), view[F](c.In[2]), view[F](c.In[3])
		lr, c1, c2 := view[F](c.In[4]), view[F](c.In[5]), view[F](c.In[6])
		p2, m2, v2 := view[F](c.Out[0]), view[F](c.Out[1]), view[F](c.Out[2])
		a := c.Node.Attr.(graph.AdamAttr)
		return []host.Loop{loop(len(p), 12, func(lo, hi int) {
			lr, c1, c2 := float64(lr[0]), float64(c1[0]), float64(c2[0])
			for i := lo; i < hi; i++ {
				p, g := float64(p[i]), float64(g[i])
				m := a.Beta1*float64(m[i]) + (1-a.Beta1)*g
				v := a.Beta2*float64(v[i]) + (1-a.Beta2)*g*g
				step := m/c1/(math.Sqrt(v/c2)+a.Eps) + a.Decay*p
				p2[i], m2[i], v2[i] = F(p-lr*step), F(m), F(v)
			}
		})}
	}}
}
