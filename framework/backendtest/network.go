package backendtest

import (
	"fmt"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

// netConfig is the size of the little transformer that gradient and training
// checks run.
type netConfig struct {
	batch, tokens, width, heads, kv, vocab, layers int
}

// network is the mean loss of a transformer with two residual streams, smooth
// in its parameters. Inputs: tokens and targets i32 [B,T], pos i32 [B].
func network(b *graph.Builder, c netConfig) graph.Value {
	tokens := b.Input("tokens", tensor.I32, c.batch, c.tokens)
	targets := b.Input("targets", tensor.I32, c.batch, c.tokens)
	pos := b.Input("pos", tensor.I32, c.batch)
	N := c.batch * c.tokens
	emb := b.Param("embedding", graph.NormalInit(0.5), c.vocab, c.width)
	x := b.Reshape(b.Gather(emb, tokens), N, 1, c.width)
	s := b.Broadcast(x, tensor.Shape{N, 2, c.width})
	for l := range c.layers {
		b.In(fmt.Sprintf("blk.%d", l), func() {
			s = sublayer(b, s, func(x graph.Value) graph.Value { return c.attention(b, x, pos) })
			b.In("ffn", func() {
				s = sublayer(b, s, func(x graph.Value) graph.Value {
					h := 2*c.width + 1
					return linear(b, "down", b.SwiGLU(linear(b, "gate", x, h), linear(b, "up", x, h)), c.width)
				})
			})
		})
	}
	y := norm(b, "final", b.Reshape(b.Mean(s, 1), N, c.width))
	nll := b.CrossEntropy(linear(b, "head", y, c.vocab), b.Reshape(targets, N))
	return b.Scale(b.SumAll(nll), 1/float64(N))
}

// sublayer reads, transforms and writes back two streams, whose mixing matrix
// is doubly stochastic.
func sublayer(b *graph.Builder, s graph.Value, f func(graph.Value) graph.Value) graph.Value {
	pre := b.Sigmoid(b.Param("pre", graph.ListInit(1, -1), 2))
	post := b.Scale(b.Sigmoid(b.Param("post", graph.ListInit(0.5, -0.5), 2)), 2)
	a := b.Sigmoid(b.Param("alpha", graph.ConstInit(2), 1, 1))
	rest := b.Sub(b.Like(a, 1), a)
	h := b.Concat(0, b.Concat(1, a, rest), b.Concat(1, rest, a))
	return b.StreamWrite(s, f(norm(b, "norm", b.StreamRead(s, pre))), h, post)
}

func norm(b *graph.Builder, name string, x graph.Value) graph.Value {
	return b.RMSNorm(x, b.Param(name, graph.ConstInit(1), x.Dim(-1)), 1e-6)
}

func linear(b *graph.Builder, name string, x graph.Value, m int) graph.Value {
	return b.MatMul(x, b.Param(name, graph.NormalInit(0.3), m, x.Dim(-1)), false, true)
}

func (c netConfig) attention(b *graph.Builder, x, pos graph.Value) graph.Value {
	D := c.width / c.heads
	split := func(v graph.Value, heads int) graph.Value { return b.Reshape(v, c.batch, c.tokens, heads, D) }
	q := b.RoPE(split(linear(b, "q", x, c.width), c.heads), pos, 100)
	k := b.RoPE(split(linear(b, "k", x, c.kv*D), c.kv), pos, 100)
	v := split(linear(b, "v", x, c.kv*D), c.kv)
	return linear(b, "o", b.Reshape(b.Attention(q, k, v, pos), c.batch*c.tokens, c.width), c.width)
}

// initStates draws every parameter of g as its Init says; buffers are left to
// the backend.
func initStates(g *graph.Graph) states {
	st := states{}
	for _, n := range g.Params() {
		init := n.Attr.(graph.ParamAttr).Init
		k := rng.NewKey(7, n.Name())
		st[n.Name()] = fillTensor(n.Out[0], func(_ rng.Key, i int) float64 {
			if len(init.Values) > 0 {
				return init.Values[i%len(init.Values)]
			}
			return init.Mean + init.Std*k.Normal(uint64(i))
		}, k)
	}
	return st
}

// networkInputs makes token ids, targets (one of them ignored) and positions 0,
// and for other inputs normal numbers.
func networkInputs(g *graph.Graph) []*tensor.Tensor {
	in := make([]*tensor.Tensor, len(g.Inputs))
	for i, n := range g.Inputs {
		fill := normal
		switch n.Name() {
		case "tokens", "targets":
			fill = below(11)
		case "pos":
			fill = listed(0)
		}
		in[i] = fillTensor(n.Out[0], fill, rng.NewKey(seed, n.Name()))
		if n.Name() == "targets" {
			in[i].I32()[1] = -1
		}
	}
	return in
}
