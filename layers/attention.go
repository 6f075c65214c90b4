package layers

import (
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Cache says that keys and values are kept in the buffers cache.k and cache.v,
// [B,Rows,KVHeads,D], and that the run's first token is at Pos i32 [B].
type Cache struct {
	Rows  int
	Pos   graph.Value
	DType tensor.DType // of the buffers: F16, or F32, which the zero value stands for
}

// dtype is the type of the buffers.
func (c *Cache) dtype() tensor.DType {
	if c.DType == tensor.Invalid {
		return tensor.F32
	}
	return c.DType
}

// Attention is causal multi-head attention with rotary positions; fewer key
// heads than query heads make it grouped-query attention (arXiv 2305.13245).
type Attention struct {
	Heads, KVHeads, HeadDim int
	RoPE                    graph.RoPEAttr
	RoPEGain                float64 // by which queries and keys are multiplied (YaRN's magnitude); 0 is 1
	SubNorm                 bool    // RMSNorm before the output projection (SubLN, arXiv 2210.06423)
	Eps                     float64
	Linear                  Linear
}

// Apply maps x [B*T,C] to [B*T,C]; cache is nil when the whole sequence is
// given at once. The weights are wq, wk, wv and wo.
func (a Attention) Apply(b *graph.Builder, x graph.Value, batch, length int, cache *Cache) graph.Value {
	heads := func(name string, n int) graph.Value {
		return b.Reshape(a.Linear.Apply(b, name, x, n*a.HeadDim), batch, length, n, a.HeadDim)
	}
	q, k, v := heads("wq", a.Heads), heads("wk", a.KVHeads), heads("wv", a.KVHeads)
	pos := b.Const(0, tensor.T(tensor.I32, batch))
	if cache != nil {
		pos = cache.Pos
	}
	q, k = a.rotate(b, q, pos), a.rotate(b, k, pos)
	if cache != nil {
		k, v = a.append(b, cache, "k", k), a.append(b, cache, "v", v)
	}
	y := b.Reshape(b.Attention(q, k, v, pos), batch*length, a.Heads*a.HeadDim)
	if a.SubNorm {
		y = Norm(b, "sub_norm", y, a.Eps)
	}
	return a.Linear.Apply(b, "wo", y, x.Dim(1))
}

// rotate turns the pairs of x by their positions.
func (a Attention) rotate(b *graph.Builder, x, pos graph.Value) graph.Value {
	x = b.ScaledRoPE(x, pos, a.RoPE)
	if a.RoPEGain != 0 && a.RoPEGain != 1 {
		x = b.Scale(x, a.RoPEGain)
	}
	return x
}

// append writes the new rows into the cache and returns all of it.
func (a Attention) append(b *graph.Builder, c *Cache, name string, rows graph.Value) (all graph.Value) {
	b.In("cache", func() {
		buf := b.Buffer(name, tensor.T(c.dtype(), rows.Dim(0), c.Rows, a.KVHeads, a.HeadDim))
		all = b.UpdateAt(buf, rows, c.Pos, 1)
		b.Update(buf, all)
	})
	return all
}
