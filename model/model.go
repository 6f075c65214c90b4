package model

import (
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/layers"
	"github.com/ternlm/tern/quant"
	_ "github.com/ternlm/tern/residual" // the presets name them
)

// Model is a configuration with its quantizer and residual opened.
type Model struct {
	Config
	quantizer framework.Quantizer
	residual  framework.Residual
	stored    map[string]layers.Stored
}

// New opens the parts that c names and checks that they fit.
func New(c Config) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	q, err := framework.Quantizers.Open(c.Quant)
	if err != nil {
		return nil, err
	}
	return with(c, q, false)
}

// with is New with an open quantizer; packed says that it cannot quantize.
func with(c Config, q framework.Quantizer, packed bool) (*Model, error) {
	r, err := framework.Residuals.Open(c.Residual)
	if err != nil {
		return nil, err
	}
	c.Quant, c.Residual = q.Spec(), r.Spec()
	m := &Model{Config: c, quantizer: q, residual: r}
	if _, err := m.Loss(1, 1, packed); err != nil {
		if g := (*graph.Error)(nil); errors.As(err, &g) && g.Err != nil {
			return nil, err // not the configuration's fault
		}
		return nil, errors.WithHint(errors.Wrapf(ErrConfig, "%v", err), "the quantizer's group must divide dim, heads times head width, and ffn")
	}
	return m, m.checkResidual()
}

// NewStored is New for weights that a file holds in formats of its own: stored has
// those by full name, such as blk.0.attn.wq. The table tok_embed and the head
// lm_head may be stored as floats; what is not named is as New has it. A pass
// that is not packed does not look at it.
func NewStored(c Config, stored map[string]layers.Stored) (*Model, error) {
	m, err := New(c)
	if err != nil {
		return nil, err
	}
	m.stored = stored
	if _, err := m.LossOf(1, 1, Pass{Packed: true, F16: true}); err != nil {
		return nil, errors.WithHint(errors.Wrapf(ErrConfig, "%v", err), "the weights' groups must divide their columns")
	}
	return m, nil
}

// Stored returns how the weight of a full name, such as blk.0.attn.wq, is stored
// where that is not the quantizer's choice (NewStored).
func (m *Model) Stored(name string) (s layers.Stored, ok bool) {
	s, ok = m.stored[name]
	return s, ok
}

// Quantizer returns the quantizer of the linears.
func (m *Model) Quantizer() framework.Quantizer { return m.quantizer }

// int8Head is the quantizer of HeadInt8: its groups of 32 with f16 scales are the
// blocks of GGUF's Q8_0.
var int8Head = quant.Int8{Group: 32}

// QuantizerOf returns the quantizer of the weight of a full name that has codes,
// such as blk.0.attn.wq: that of the linears, but for a head with its own.
func (m *Model) QuantizerOf(name string) framework.Quantizer {
	if name == "lm_head" && m.Head == HeadInt8 {
		return int8Head
	}
	return m.quantizer
}

// Residual returns the residual.
func (m *Model) Residual() framework.Residual { return m.residual }

// Pass says how the model is traced.
type Pass struct {
	Packed bool          // weights are codes and scales alone
	F16    bool          // the embedding is stored as f16
	Cache  *layers.Cache // keys and values are kept between runs
	Last   graph.Value   // i32 [N]: rows of [B*T] that go through the head; all when missing
	// CacheType is how Step keeps keys and values: F16, or F32, which the zero
	// value stands for.
	CacheType tensor.DType
	// Probe is called with the stream that Expand makes, as l = -1, and with that
	// after each sub-layer.
	Probe func(l int, stream graph.Value)
}

// Forward maps tokens i32 [B,T] to logits f32 [N,Vocab], one row a token or,
// with Last, one a chosen token.
func (m *Model) Forward(b *graph.Builder, tokens graph.Value, p Pass) graph.Value {
	x, table := m.trunk(b, tokens, p)
	return m.head(p, table).logits(b, x)
}

// trunk is everything before the head: f32 [N,Dim], and the embedding table.
func (m *Model) trunk(b *graph.Builder, tokens graph.Value, p Pass) (x, table graph.Value) {
	batch, length := tokens.Dim(0), tokens.Dim(1)
	embedding := layers.Embedding{Vocab: m.Vocab, Dim: m.Dim, Stored: m.table(p, "tok_embed")}
	linear := layers.Linear{Quant: m.quantizer, Packed: p.Packed, Stored: m.stored}
	attention := layers.Attention{
		Heads: m.Heads, KVHeads: m.KVHeads, HeadDim: m.HeadDim(),
		RoPE: graph.RoPEAttr{Theta: m.RoPETheta, Factors: m.RoPEFactors}, RoPEGain: m.RoPEGain,
		SubNorm: m.SubNorm, Eps: m.NormEps, Linear: linear,
	}
	feedForward := layers.FeedForward{Hidden: m.FFN, Activation: layers.Activation(m.Activation), SubNorm: m.SubNorm, Eps: m.NormEps, Linear: linear}

	table = embedding.Table(b, "tok_embed")
	s := m.residual.Expand(b, embedding.Lookup(b, table, tokens))
	if p.Probe != nil {
		p.Probe(-1, s)
	}
	for i := range m.Layers {
		b.In(fmt.Sprintf("blk.%d", i), func() {
			s = m.subLayer(b, "attn", 2*i, s, p, func(x graph.Value) graph.Value {
				return attention.Apply(b, x, batch, length, p.Cache)
			})
			s = m.subLayer(b, "ffn", 2*i+1, s, p, func(x graph.Value) graph.Value {
				return feedForward.Apply(b, x)
			})
		})
	}
	x = layers.Norm(b, "norm", m.residual.Collapse(b, s), m.NormEps)
	if p.Last.Ok() {
		x = b.Gather(x, p.Last)
	}
	return x, table
}

// subLayer is a pre-norm sub-layer joined to the stream.
func (m *Model) subLayer(b *graph.Builder, name string, l int, s graph.Value, p Pass, f func(x graph.Value) graph.Value) (out graph.Value) {
	b.In(name, func() {
		x := layers.Norm(b, "norm", m.residual.Read(b, l, s), m.NormEps)
		out = m.residual.Write(b, l, s, f(x))
		if p.Probe != nil {
			p.Probe(l, out)
		}
	})
	return out
}

// head is the last layer: f32 [N,Dim] to f32 [N,Vocab].
type head struct {
	vocab  int
	linear layers.Linear
	// table declares the weight [Vocab,Dim] of a head that is no linear layer.
	table func(b *graph.Builder) graph.Value
}

func (m *Model) head(p Pass, table graph.Value) head {
	h := head{vocab: m.Vocab, linear: layers.Linear{Quant: quant.None{}}}
	switch {
	case m.Tied:
		h.table = func(*graph.Builder) graph.Value { return table }
	case m.Head == HeadTernary || m.Head == HeadInt8:
		h.linear = layers.Linear{Quant: m.QuantizerOf("lm_head"), Packed: p.Packed}
	case p.F16:
		table := layers.Embedding{Vocab: m.Vocab, Dim: m.Dim, Stored: m.table(p, "lm_head")}
		h.table = func(b *graph.Builder) graph.Value { return table.Table(b, "lm_head") }
	}
	return h
}

// table is the type in which the table of a name is stored: that of the file it
// comes from, else f16 if the pass says so.
func (m *Model) table(p Pass, name string) tensor.DType {
	switch s, ok := m.stored[name]; {
	case !p.F16:
		return tensor.Invalid
	case ok:
		return s.Float
	}
	return tensor.F16
}

func (h head) logits(b *graph.Builder, x graph.Value) graph.Value {
	if h.table != nil {
		return b.MatMul(x, h.table(b), false, true)
	}
	return h.linear.Apply(b, "lm_head", x, h.vocab)
}

// loss is the cross-entropy of the logits with targets i32 [N]: f32 [N]. The
// logits need not stand in memory.
func (h head) loss(b *graph.Builder, x, targets graph.Value) graph.Value {
	if h.table != nil {
		return b.LinearCrossEntropy(x, h.table(b), targets)
	}
	return h.linear.CrossEntropy(b, "lm_head", x, h.vocab, targets)
}
