package avx2

import (
	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func addStreams(t host.Table) {
	t.Add("streamread", streamRead())
	t.Add("streamread.vjp", streamReadVJP())
	t.Add("streamwrite", streamWrite())
	t.Add("streamwrite.vjp", streamWriteVJP())
}

// streamed reports whether operand 0 of n, [N,S,C], suits the vector kernels.
func streamed(n *graph.Node) bool { return n.In[0].Dim(1) <= 8 && n.In[0].Dim(2) >= 8 }

// coefs are coefficients of streams: one set for all rows, or one for each.
type coefs struct {
	all  []float32
	size int // of a set
	step int // from a row's set to the next row's, 0 where they share it
}

// coefsOf views t, of rank dimensions if all rows share its elements.
func coefsOf(t tensor.Tensor, rank int) coefs {
	c := coefs{all: t.F32(), size: t.Shape[len(t.Shape)-rank:].Numel()}
	if len(t.Shape) > rank {
		c.step = c.size
	}
	return c
}

// row is the set of row n.
func (c coefs) row(n int) []float32 { return c.all[n*c.step:][:c.size] }

// shares collects the gradients of coefficients, row by row: those that rows
// share are first added up in parts of partRows rows.
type shares struct {
	coefs
	part []float32 // a set for each part, nil where a row has its own
}

// shareLen is the number of floats of the parts of the gradient of v, of rank
// dimensions if all N rows share its elements.
func shareLen(N int, v graph.Value, rank int) int {
	if s := v.Shape(); len(s) == rank {
		return parts(N) * s.Numel()
	}
	return 0
}

// sharesOf collects into t, of rank dimensions if all N rows share its elements,
// and takes the parts from the start of mem.
func sharesOf(t tensor.Tensor, rank, N int, mem *[]float32) shares {
	s := shares{coefs: coefsOf(t, rank)}
	if s.step == 0 {
		n := parts(N) * s.size
		s.part, *mem = (*mem)[:n], (*mem)[n:]
	}
	return s
}

// begin clears what the rows of part p add to, before the first of them.
func (s shares) begin(p, lo, hi int) {
	if s.part != nil {
		clear(s.part[p*s.size : (p+1)*s.size])
		return
	}
	clear(s.all[lo*s.size : hi*s.size])
}

// at is what row n, of part p, adds its share to.
func (s shares) at(p, n int) []float32 {
	if s.part != nil {
		return s.part[p*s.size:][:s.size]
	}
	return s.row(n)
}

// finish adds up the parts.
func (s shares) finish(N int) []host.Loop {
	if s.part == nil {
		return nil
	}
	return []host.Loop{addParts(s.all, s.part, parts(N))}
}

func streamRead() host.Kernel {
	return host.Kernel{Supports: streamed, Bind: func(c *host.Call) []host.Loop {
		s, pre, z := c.In[0].F32(), coefsOf(c.In[1], 1), c.Out[0].F32()
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		return []host.Loop{loop(N, S*C, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				simd.StreamRead(z[n*C:(n+1)*C], s[n*S*C:(n+1)*S*C], pre.row(n), S)
			}
		})}
	}}
}

func streamReadVJP() host.Kernel {
	return host.Kernel{
		Supports: streamed,
		Scratch:  func(n *graph.Node) int { return 4 * shareLen(n.In[0].Dim(0), n.In[1], 1) },
		Bind: func(c *host.Call) []host.Loop {
			s, pre, g, ds := c.In[0].F32(), coefsOf(c.In[1], 1), c.In[2].F32(), c.Out[0].F32()
			N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
			mem := tensorF32(c.Scratch)
			dpre := sharesOf(c.Out[1], 1, N, &mem)
			return append([]host.Loop{loop(parts(N), 3*S*C*partRows, func(lo, hi int) {
				for p := lo; p < hi; p++ {
					first, last := p*partRows, min(N, (p+1)*partRows)
					dpre.begin(p, first, last)
					for n := first; n < last; n++ {
						simd.StreamReadGrad(ds[n*S*C:(n+1)*S*C], dpre.at(p, n), g[n*C:(n+1)*C], s[n*S*C:(n+1)*S*C], pre.row(n), S)
					}
				}
			})}, dpre.finish(N)...)
		},
	}
}

// streamWrite may write over the streams, and matrices of rows may be the
// streams themselves, if there are as many columns: so a row's is copied first.
func streamWrite() host.Kernel {
	return host.Kernel{Supports: streamed, Bind: func(c *host.Call) []host.Loop {
		s, y, h, post := c.In[0].F32(), c.In[1].F32(), coefsOf(c.In[2], 2), coefsOf(c.In[3], 1)
		z := c.Out[0].F32()
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		return []host.Loop{loop(N, S*S*C, func(lo, hi int) {
			var mix [64]float32
			for n := lo; n < hi; n++ {
				copy(mix[:], h.row(n))
				simd.StreamWrite(z[n*S*C:(n+1)*S*C], s[n*S*C:(n+1)*S*C], y[n*C:(n+1)*C], mix[:S*S], post.row(n), S)
			}
		})}
	}}
}

// streamWriteVJP may write ds over the cotangent, a row at a time.
func streamWriteVJP() host.Kernel {
	return host.Kernel{
		Supports: streamed,
		Scratch: func(n *graph.Node) int {
			N := n.In[0].Dim(0)
			return 4 * (shareLen(N, n.In[2], 2) + shareLen(N, n.In[3], 1))
		},
		Bind: func(c *host.Call) []host.Loop {
			s, y, h, post, g := c.In[0].F32(), c.In[1].F32(), coefsOf(c.In[2], 2), coefsOf(c.In[3], 1), c.In[4].F32()
			ds, dy := c.Out[0].F32(), c.Out[1].F32()
			N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
			mem := tensorF32(c.Scratch)
			dh, dpost := sharesOf(c.Out[2], 2, N, &mem), sharesOf(c.Out[3], 1, N, &mem)
			all := []host.Loop{loop(parts(N), 3*S*S*C*partRows, func(lo, hi int) {
				for p := lo; p < hi; p++ {
					first, last := p*partRows, min(N, (p+1)*partRows)
					dh.begin(p, first, last)
					dpost.begin(p, first, last)
					for n := first; n < last; n++ {
						simd.StreamWriteGrad(ds[n*S*C:(n+1)*S*C], dy[n*C:(n+1)*C], dh.at(p, n), dpost.at(p, n),
							g[n*S*C:(n+1)*S*C], s[n*S*C:(n+1)*S*C], y[n*C:(n+1)*C], h.row(n), post.row(n), S)
					}
				}
			})}
			return append(append(all, dh.finish(N)...), dpost.finish(N)...)
		},
	}
}
