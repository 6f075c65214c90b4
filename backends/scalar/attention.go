package scalar

import (
	"math"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// attend is what attention and its pullback share: queries [B,T,H,D] over keys
// and values [B,S,KV,D], row t of batch b seeing columns 0 to pos[b]+t.
type attend[F Float] struct {
	B, T, H, D, S, KV int
	q, k, v           []F
	pos               []int32
}

func newAttend[F Float](c *host.Call) *attend[F] {
	q, k := c.In[0].Shape, c.In[1].Shape
	return &attend[F]{
		B: q[0], T: q[1], H: q[2], D: q[3], S: k[1], KV: k[2],
		q: view[F](c.In[0]), k: view[F](c.In[1]), v: view[F](c.In[2]), pos: c.In[3].I32(),
	}
}

func (a *attend[F]) check(c *host.Call) host.Loop {
	return checkRange(c, "position", a.pos, a.S-a.T+1, false)
}

// columns is how many keys the first row of batch b sees, 0 when its position
// is out of range.
func (a *attend[F]) columns(b int) int {
	if p := int(a.pos[b]); p >= 0 && p <= a.S-a.T {
		return p + 1
	}
	return 0
}

// head cuts row (b,t) of head h out of x, which has so many rows and heads.
func (a *attend[F]) head(x []F, b, t, rows, h, heads int) []F {
	return x[((b*rows+t)*heads+h)*a.D:][:a.D]
}

func (a *attend[F]) query(x []F, b, t, h int) []F { return a.head(x, b, t, a.T, h, a.H) }
func (a *attend[F]) key(x []F, b, s, g int) []F   { return a.head(x, b, s, a.S, g, a.KV) }

// weights sets p to the softmax of the scores of query row q over the first
// len(p) keys of key head g.
func (a *attend[F]) weights(p []float64, q []F, b, g int) {
	scale := 1 / math.Sqrt(float64(a.D))
	top := math.Inf(-1)
	for s := range p {
		p[s] = dot(q, a.key(a.k, b, s, g)) * scale
		top = max(top, p[s])
	}
	sum := 0.0
	for s, v := range p {
		p[s] = math.Exp(v - top)
		sum += p[s]
	}
	for s := range p {
		p[s] /= sum
	}
}

// addScaled adds c*x to acc.
func addScaled[F Float](acc []float64, x []F, c float64) {
	x = x[:len(acc)]
	for i, v := range x {
		acc[i] += c * float64(v)
	}
}

func store[F Float](z []F, x []float64) {
	for i, v := range x {
		z[i] = F(v)
	}
}

// ofFloats reports whether the keys of n are f32; attention over f16 ones runs
// as its expansion.
func ofFloats(n *graph.Node) bool { return n.In[1].Type().DType == tensor.F32 }

// attention has one item a batch and query head.
func attention[F Float]() host.Kernel {
	scratch := func(n *graph.Node) int {
		q, k := n.In[0].Shape(), n.In[1].Shape()
		return room[float64](q[0]*q[2]*k[1]) + room[float64](q[0]*q[2]*q[3])
	}
	return host.Kernel{Supports: ofFloats, Scratch: scratch, Bind: func(c *host.Call) []host.Loop {
		a, z, mem := newAttend[F](c), view[F](c.Out[0]), c.Scratch
		scores, sums := take[float64](&mem, a.B*a.H*a.S), take[float64](&mem, a.B*a.H*a.D)
		return []host.Loop{a.check(c), loop(a.B*a.H, a.T*a.S*a.D, func(lo, hi int) {
			for item := lo; item < hi; item++ {
				b, h := item/a.H, item%a.H
				g, n, acc := h/(a.H/a.KV), a.columns(b), sums[item*a.D:(item+1)*a.D]
				for t := 0; t < a.T && n > 0; t++ {
					p := scores[item*a.S:][:n+t]
					a.weights(p, a.query(a.q, b, t, h), b, g)
					clear(acc)
					for s, w := range p {
						addScaled(acc, a.key(a.v, b, s, g), w)
					}
					store(a.query(z, b, t, h), acc)
				}
			}
		})}
	}}
}

// attentionVJP has one item a batch and key head, so that the query heads that
// share a key head add to its gradient in order. With weights p and result
// cotangent g a row: dv = p g, dp = g v, ds = p*(dp - sum(p*dp)), dq = ds k and
// dk = ds q, the last two scaled like the scores.
func attentionVJP[F Float]() host.Kernel {
	scratch := func(n *graph.Node) int {
		k := n.In[1].Shape()
		return 2*room[float64](k[0]*k[2]*k[1]) + 2*room[float64](k.Numel()) + room[float64](k[0]*k[2]*k[3])
	}
	return host.Kernel{Supports: ofFloats, Scratch: scratch, Bind: func(c *host.Call) []host.Loop {
		a, g := newAttend[F](c), view[F](c.In[4])
		w := &attendVJP[F]{attend: a, g: g, dq: view[F](c.Out[0]), dk: view[F](c.Out[1]), dv: view[F](c.Out[2])}
		mem := c.Scratch
		w.p, w.dp = take[float64](&mem, a.B*a.KV*a.S), take[float64](&mem, a.B*a.KV*a.S)
		w.sumK, w.sumV = take[float64](&mem, len(a.k)), take[float64](&mem, len(a.k))
		w.sumQ = take[float64](&mem, a.B*a.KV*a.D)
		return []host.Loop{a.check(c), loop(a.B*a.KV, a.T*a.S*a.D, func(lo, hi int) {
			for item := lo; item < hi; item++ {
				w.group(item)
			}
		})}
	}}
}

type attendVJP[F Float] struct {
	*attend[F]
	g, dq, dk, dv           []F
	p, dp, sumK, sumV, sumQ []float64
}

// group does all query heads of one batch and key head.
func (w *attendVJP[F]) group(item int) {
	b, kv := item/w.KV, item%w.KV
	share, size := w.H/w.KV, w.S*w.D
	sumK, sumV := w.sumK[item*size:(item+1)*size], w.sumV[item*size:(item+1)*size]
	clear(sumK)
	clear(sumV)
	if n := w.columns(b); n > 0 {
		for h := kv * share; h < (kv+1)*share; h++ {
			for t := range w.T {
				w.row(item, b, t, h, kv, n+t, sumK, sumV)
			}
		}
	}
	for s := range w.S {
		store(w.key(w.dk, b, s, kv), sumK[s*w.D:(s+1)*w.D])
		store(w.key(w.dv, b, s, kv), sumV[s*w.D:(s+1)*w.D])
	}
}

// row does query row t of head h, which sees n keys.
func (w *attendVJP[F]) row(item, b, t, h, kv, n int, sumK, sumV []float64) {
	p, dp, sumQ := w.p[item*w.S:][:n], w.dp[item*w.S:][:n], w.sumQ[item*w.D:(item+1)*w.D]
	q, g := w.query(w.q, b, t, h), w.query(w.g, b, t, h)
	w.weights(p, q, b, kv)
	mean := 0.0
	for s := range p {
		dp[s] = dot(g, w.key(w.v, b, s, kv))
		mean += p[s] * dp[s]
	}
	clear(sumQ)
	scale := 1 / math.Sqrt(float64(w.D))
	for s := range p {
		ds := p[s] * (dp[s] - mean) * scale
		addScaled(sumQ, w.key(w.k, b, s, kv), ds)
		addScaled(sumK[s*w.D:(s+1)*w.D], q, ds)
		addScaled(sumV[s*w.D:(s+1)*w.D], g, p[s])
	}
	store(w.query(w.dq, b, t, h), sumQ)
}
