package model

import (
	"fmt"
	"strings"

	"github.com/ternlm/tern/framework"
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
	b.In(strings.TrimSuffix(name, ".weight"), func() {
		layers.Linear{Quant: m.quantizer}.Pack(b, w)
	})
}

// Mixings traces, for a residual that reports it, the mixing matrix of each
// sub-layer: outputs h.0, h.1, ... f32 [S,S]. It returns nil for others.
func (m *Model) Mixings() (*graph.Graph, error) {
	mixer, ok := m.residual.(framework.Mixer)
	if !ok {
		return nil, nil
	}
	return graph.Trace(func(b *graph.Builder) {
		s := b.Const(0, tensor.T(tensor.F32, 1, mixer.Width(), m.Dim))
		for l := range 2 * m.Layers {
			inSubLayer(b, l, func() { b.Output(fmt.Sprintf("h.%d", l), mixer.Mixing(b, l, s)) })
		}
	})
}

// inSubLayer runs fn under the scope of sub-layer l.
func inSubLayer(b *graph.Builder, l int, fn func()) {
	b.In(fmt.Sprintf("blk.%d", l/2), func() { b.In([]string{"attn", "ffn"}[l%2], fn) })
}

// Depths traces the state of the stream after each sub-layer on tokens i32
// [B,T]: outputs rms.L f32 [] (root mean square of the streams' mean) and, for
// several streams, divergence.L f32 [] (|s_i - mean| / |mean|, root mean
// square over streams and tokens).
func (m *Model) Depths(B, T int, packed bool) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		tokens := b.Input("tokens", tensor.I32, B, T)
		meanSquare := func(x graph.Value) graph.Value {
			return b.Scale(b.SumAll(b.Mul(x, x)), 1/float64(x.Shape().Numel()))
		}
		probe := func(l int, s graph.Value) {
			if len(s.Shape()) != 3 {
				b.Output(fmt.Sprintf("rms.%d", l), b.Sqrt(meanSquare(s)))
				return
			}
			mean := b.Mean(s, 1)
			ms := meanSquare(mean)
			b.Output(fmt.Sprintf("rms.%d", l), b.Sqrt(ms))
			b.Output(fmt.Sprintf("divergence.%d", l), b.Sqrt(b.Div(meanSquare(b.Sub(s, mean)), ms)))
		}
		m.Forward(b, tokens, Pass{Packed: packed, Probe: probe})
	})
}
