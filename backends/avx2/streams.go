package avx2

import (
	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
)

func addStreams(t host.Table) {
	t.Add("streamread", streamRead())
	t.Add("streamread.vjp", streamReadVJP())
	t.Add("streamwrite", streamWrite())
	t.Add("streamwrite.vjp", streamWriteVJP())
}

// streamed reports whether operand 0 of n, [N,S,C], suits the vector kernels.
func streamed(n *graph.Node) bool { return static(n) && n.In[0].Dim(1) <= 8 && n.In[0].Dim(2) >= 8 }

// static reports whether the coefficients of n are the same for all rows.
func static(n *graph.Node) bool {
	if len(n.In) < 4 { // streamread and its pullback
		return len(n.In[1].Shape()) == 1
	}
	return len(n.In[2].Shape()) == 2 && len(n.In[3].Shape()) == 1
}

func streamRead() host.Kernel {
	return host.Kernel{Supports: streamed, Bind: func(c *host.Call) []host.Loop {
		s, pre, z := c.In[0].F32(), c.In[1].F32(), c.Out[0].F32()
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		return []host.Loop{loop(N, S*C, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				simd.StreamRead(z[n*C:(n+1)*C], s[n*S*C:(n+1)*S*C], pre, S)
			}
		})}
	}}
}

func streamReadVJP() host.Kernel {
	return host.Kernel{
		Supports: streamed,
		Scratch:  func(n *graph.Node) int { return 4 * parts(n.In[0].Dim(0)) * n.In[0].Dim(1) },
		Bind: func(c *host.Call) []host.Loop {
			s, pre, g, ds, dpre := c.In[0].F32(), c.In[1].F32(), c.In[2].F32(), c.Out[0].F32(), c.Out[1].F32()
			N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
			part := tensorF32(c.Scratch)
			return []host.Loop{loop(parts(N), 3*S*C*partRows, func(lo, hi int) {
				for p := lo; p < hi; p++ {
					share := part[p*S : (p+1)*S]
					clear(share)
					for n := p * partRows; n < min(N, (p+1)*partRows); n++ {
						simd.StreamReadGrad(ds[n*S*C:(n+1)*S*C], share, g[n*C:(n+1)*C], s[n*S*C:(n+1)*S*C], pre, S)
					}
				}
			}), addParts(dpre, part, parts(N))}
		},
	}
}

func streamWrite() host.Kernel {
	return host.Kernel{Supports: streamed, Bind: func(c *host.Call) []host.Loop {
		s, y, h, post, z := c.In[0].F32(), c.In[1].F32(), c.In[2].F32(), c.In[3].F32(), c.Out[0].F32()
		N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
		return []host.Loop{loop(N, S*S*C, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				simd.StreamWrite(z[n*S*C:(n+1)*S*C], s[n*S*C:(n+1)*S*C], y[n*C:(n+1)*C], h, post, S)
			}
		})}
	}}
}

func streamWriteVJP() host.Kernel {
	return host.Kernel{
		Supports: streamed,
		Scratch: func(n *graph.Node) int {
			S := n.In[0].Dim(1)
			return 4 * parts(n.In[0].Dim(0)) * (S*S + S)
		},
		Bind: func(c *host.Call) []host.Loop {
			s, y, h, post, g := c.In[0].F32(), c.In[1].F32(), c.In[2].F32(), c.In[3].F32(), c.In[4].F32()
			ds, dy, dh, dpost := c.Out[0].F32(), c.Out[1].F32(), c.Out[2].F32(), c.Out[3].F32()
			N, S, C := c.In[0].Shape[0], c.In[0].Shape[1], c.In[0].Shape[2]
			all := tensorF32(c.Scratch)
			partH, partPost := all[:parts(N)*S*S], all[parts(N)*S*S:]
			return []host.Loop{loop(parts(N), 3*S*S*C*partRows, func(lo, hi int) {
				for p := lo; p < hi; p++ {
					shareH, sharePost := partH[p*S*S:(p+1)*S*S], partPost[p*S:(p+1)*S]
					clear(shareH)
					clear(sharePost)
					for n := p * partRows; n < min(N, (p+1)*partRows); n++ {
						simd.StreamWriteGrad(ds[n*S*C:(n+1)*S*C], dy[n*C:(n+1)*C], shareH, sharePost,
							g[n*S*C:(n+1)*S*C], s[n*S*C:(n+1)*S*C], y[n*C:(n+1)*C], h, post, S)
					}
				}
			}), addParts(dh, partH, parts(N)), addParts(dpost, partPost, parts(N))}
		},
	}
}
