package model

import (
	"fmt"
	"strings"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/layers"
)

// GradPrefix comes before a parameter's name in the name of the buffer that
// its gradient is added to.
const GradPrefix = "grad."

// Loss traces the evaluation of B sequences of T tokens: inputs tokens i32
// [B,T] and targets i32 [B*T], output nll f32 [B*T] in nats.
func (m *Model) Loss(B, T int, packed bool) (*graph.Graph, error) {
	return m.LossOf(B, T, Pass{Packed: packed})
}

// LossOf is Loss for any pass, such as one with an f16 embedding.
func (m *Model) LossOf(B, T int, p Pass) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) { b.Output("nll", m.nll(b, B, T, p)) })
}

func (m *Model) nll(b *graph.Builder, B, T int, p Pass) graph.Value {
	tokens := b.Input("tokens", tensor.I32, B, T)
	targets := b.Input("targets", tensor.I32, B*T)
	x, table := m.trunk(b, tokens, p)
	return m.head(p, table).loss(b, x, targets)
}

// Accumulate traces one micro-batch of training: the inputs of Loss, output
// loss f32 [] (the mean over the micro-batch), and for each parameter an
// update of the buffer grad.NAME: its gradient, or with steps > 1 the sum so
// far plus the gradient divided by steps.
func (m *Model) Accumulate(B, T, steps int) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		loss := b.Scale(b.SumAll(m.nll(b, B, T, Pass{})), 1/float64(B*T))
		b.Output("loss", loss)
		params := b.Params()
		grads := b.Gradients(b.Scale(loss, 1/float64(steps)), params)
		for i, p := range params {
			sum := b.GlobalBuffer(GradPrefix+p.N.Name(), p.Type())
			if steps > 1 {
				grads[i] = b.Add(sum, grads[i])
			}
			b.Update(sum, grads[i])
		}
	})
}

// Step traces prefill or decoding: inputs tokens i32 [B,T], pos i32 [B] (the
// position of the first of them) and last i32 [B] (rows of [B*T] whose logits
// are wanted), output logits f32 [B,Vocab]. The caches hold rows positions.
func (m *Model) Step(B, T, rows int, p Pass) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		tokens := b.Input("tokens", tensor.I32, B, T)
		p.Cache = &layers.Cache{Rows: rows, Pos: b.Input("pos", tensor.I32, B), DType: p.CacheType}
		p.Last = b.Input("last", tensor.I32, B)
		b.Output("logits", m.Forward(b, tokens, p))
	})
}

// Choose traces a step of B sequences at once, a token of each, with the choice of
// what follows: inputs tokens i32 [B,1], pos i32 [B] and last i32 [B], as Step has
// them, output next f32 [B], the number of each sequence's likeliest token, of
// equals the first, or Vocab where its logits are no numbers.
func (m *Model) Choose(B, rows int, p Pass) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		tokens := b.Input("tokens", tensor.I32, B, 1)
		p.Cache = &layers.Cache{Rows: rows, Pos: b.Input("pos", tensor.I32, B), DType: p.CacheType}
		p.Last = b.Input("last", tensor.I32, B)
		logits := m.Forward(b, tokens, p)
		most := b.AMax(logits, 1)
		// The largest of the negative numbers is the first token.
		number := b.Neg(b.Reshape(b.Iota(m.Vocab), 1, m.Vocab))
		number = b.Where(b.Equal(logits, most), number, b.Like(logits, -float64(m.Vocab)))
		b.Output("next", b.Reshape(b.Neg(b.AMax(number, 1)), B))
	})
}

// Pack traces the quantisation of every quantized weight into its codes and
// scales.
func (m *Model) Pack() (*graph.Graph, error) {
	params, err := m.Parameters()
	if err != nil {
		return nil, err
	}
	return graph.Trace(func(b *graph.Builder) {
		for _, p := range params {
			if p.Category == Ternary {
				w := b.GlobalParam(p.Name, graph.Init{}, p.Shape...)
				m.PackWeight(b, p.Name, w)
			}
		}
	})
}

// PackWeight updates the packed form of the named weight from its value w.
func (m *Model) PackWeight(b *graph.Builder, name string, w graph.Value) {
	base := strings.TrimSuffix(name, ".weight")
	b.In(base, func() { layers.Linear{Quant: m.QuantizerOf(base)}.Pack(b, w) })
}

// Watcher looks at the forward pass while it is traced, and may add outputs.
type Watcher interface {
	// Stream is called with the residual stream that sub-layer l leaves, in that
	// sub-layer's scope, and first of all, as l = -1, with what Expand makes.
	Stream(b *graph.Builder, l int, s graph.Value)
	// Loss is called last, with the loss of each token f32 [B*T] in nats.
	Loss(b *graph.Builder, nll graph.Value)
}

// Watch traces the forward pass of LossOf, with its inputs, and no outputs but
// those of w.
func (m *Model) Watch(B, T int, p Pass, w Watcher) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		p.Probe = func(l int, s graph.Value) { w.Stream(b, l, s) }
		w.Loss(b, m.nll(b, B, T, p))
	})
}

// SubLayer is the scope of sub-layer l, counted from 0 through attention and
// feed-forward of each block: blk.0.attn, blk.0.ffn, blk.1.attn, ...
func SubLayer(l int) string { return fmt.Sprintf("blk.%d.%s", l/2, []string{"attn", "ffn"}[l%2]) }
