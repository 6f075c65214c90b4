package scalar

import (
	"math"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func addStreams[F Float](t host.Table) {
	t.Add("streamread", streamRead[F]())
	t.Add("streamread.vjp", streamReadVJP[F]())
	t.Add("streamwrite", streamWrite[F]())
	t.Add("streamwrite.vjp", streamWriteVJP[F]())
}

// coefs are coefficients of streams, or their gradients: one set for all rows,
// or one for each.
type coefs[F Float] struct {
	all  []F
	size int // of a set
	step int // from a row's set to the next row's, 0 where they share it
}

// coefsOf views t, of rank dimensions if all rows share its elements.
func coefsOf[F Float](t tensor.Tensor, rank int) coefs[F] {
	size := t.Shape[len(t.Shape)-rank:].Numel()
	if len(t.Shape) == rank {
		return coefs[F]{view[F](t), size, 0}
	}
	return coefs[F]{view[F](t), size, size}
}

// row is the set of row n.
func (c coefs[F]) row(n int) []F { return c.all[n*c.step : n*c.step+c.size] }

// sums sets each gradient to the sum of f(n, k), k the place in its set, over
// the rows n of N that its coefficient serves.
func (c coefs[F]) sums(N, cost int, f func(n, k int) float64) host.Loop {
	rows := N
	if c.step > 0 {
		rows = 1
	}
	return loop(len(c.all), rows*cost, func(lo, hi int) {
		for item := lo; item < hi; item++ {
			sum, first := 0.0, item/c.size
			for n := first; n < first+rows; n++ {
				sum += f(n, item%c.size)
			}
			c.all[item] = F(sum)
		}
	})
}

func streamRead[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		s, pre, z := view[F](c.In[0]), coefsOf[F](c.In[1], 1), view[F](c.Out[0])
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		return []host.Loop{loop(N, S*C, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				s, pre := s[n*S*C:(n+1)*S*C], pre.row(n)
				for k := range C {
					z[n*C+k] = F(column(pre, 1, s[k:], C, S))
				}
			}
		})}
	}}
}

// streamReadVJP: ds_i = pre_i g and dpre_i = sum(s_i * g).
func streamReadVJP[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		s, pre, g := view[F](c.In[0]), coefsOf[F](c.In[1], 1), view[F](c.In[2])
		ds, dpre := view[F](c.Out[0]), coefsOf[F](c.Out[1], 1)
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		return []host.Loop{loop(N, S*C, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				for i, pre := range pre.row(n) {
					for k, v := range g[n*C : (n+1)*C] {
						ds[(n*S+i)*C+k] = F(float64(pre) * float64(v))
					}
				}
			}
		}), dpre.sums(N, C, func(n, i int) float64 {
			return dot(s[(n*S+i)*C:(n*S+i+1)*C], g[n*C:(n+1)*C])
		})}
	}}
}

// mixer has room for a row's matrix and for the S elements of a column of its
// streams: they are read before a column is written, which may lie over the
// streams, and the streams over the matrix, if they have as many columns.
type mixer struct {
	S    int
	copy []float64
}

func mixerRoom(n *graph.Node) int {
	N, S := n.In[0].Dim(0), n.In[0].Dim(1)
	return room[float64](N * (S*S + S))
}

func newMixer(mem []byte, N, S int) mixer { return mixer{S, take[float64](&mem, N*(S*S+S))} }

// row gives the matrix of row n, a copy of h, and room for a column.
func (m mixer) row(n int) (h, column []float64) {
	all := m.copy[n*(m.S*m.S+m.S):][:m.S*m.S+m.S]
	return all[m.S:], all[:m.S]
}

func streamWrite[F Float]() host.Kernel {
	return host.Kernel{Scratch: mixerRoom, Bind: func(c *host.Call) []host.Loop {
		s, y, h, post := view[F](c.In[0]), view[F](c.In[1]), coefsOf[F](c.In[2], 2), coefsOf[F](c.In[3], 1)
		z := view[F](c.Out[0])
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		m := newMixer(c.Scratch, N, S)
		return []host.Loop{loop(N, S*S*C, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				s, z, post := s[n*S*C:(n+1)*S*C], z[n*S*C:(n+1)*S*C], post.row(n)
				mix, x := m.row(n)
				strided(mix, h.row(n), 1)
				for k := range C {
					strided(x, s[k:], C)
					for i := range S {
						z[i*C+k] = F(around(mix[i*S:], 1, x, i) + float64(post[i])*float64(y[n*C+k]))
					}
				}
			}
		})}
	}}
}

// streamWriteVJP: ds_j = sum_i h_ij g_i, dy = sum_i post_i g_i, dh_ij = sum(g_i *
// s_j) and dpost_i = sum(g_i * y). ds, which may lie over g, is written last.
func streamWriteVJP[F Float]() host.Kernel {
	return host.Kernel{Scratch: mixerRoom, Bind: func(c *host.Call) []host.Loop {
		s, y, h, post := view[F](c.In[0]), view[F](c.In[1]), coefsOf[F](c.In[2], 2), coefsOf[F](c.In[3], 1)
		g, ds, dy := view[F](c.In[4]), view[F](c.Out[0]), view[F](c.Out[1])
		dh, dpost := coefsOf[F](c.Out[2], 2), coefsOf[F](c.Out[3], 1)
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		stream := func(x []F, n, i int) []F { return x[(n*S+i)*C : (n*S+i+1)*C] }
		m := newMixer(c.Scratch, N, S)
		return []host.Loop{dh.sums(N, C, func(n, k int) float64 {
			return dot(stream(g, n, k/S), stream(s, n, k%S))
		}), dpost.sums(N, C, func(n, i int) float64 {
			return dot(stream(g, n, i), y[n*C:(n+1)*C])
		}), loop(N, S*S*C, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				g, ds, post := g[n*S*C:(n+1)*S*C], ds[n*S*C:(n+1)*S*C], post.row(n)
				mix, x := m.row(n)
				strided(mix, h.row(n), 1)
				for k := range C {
					strided(x, g[k:], C)
					dy[n*C+k] = F(column(post, 1, g[k:], C, S))
					for j := range S {
						ds[j*C+k] = F(around(mix[j:], S, x, j))
					}
				}
			}
		})}
	}}
}

// strided sets dst to elements of x that are step apart.
func strided[F Float](dst []float64, x []F, step int) {
	for i := range dst {
		dst[i] = float64(x[i*step])
	}
}

// around is the sum of the products of the elements of h, that are so far apart,
// and x, beginning with those of i and going round: equal streams that a matrix
// treats alike stay equal to the last bit.
func around(h []float64, dh int, x []float64, i int) float64 {
	sum := 0.0
	for t := range x {
		j := (i + t) % len(x)
		sum += h[j*dh] * x[j]
	}
	return sum
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
