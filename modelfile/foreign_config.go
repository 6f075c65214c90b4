package modelfile

import (
	"cmp"
	"math"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/layers"
	"github.com/ternlm/tern/model"
)

const (
	bitnet     = "bitnet"            // 1bitLLM's models in llama.cpp
	bitnetB158 = "bitnet-b1.58"      // BitNet b1.58 2B4T in bitnet.cpp
	maxRoPE    = 1e6                 // most that a frequency is divided by
	ropeFreqs  = "rope_freqs.weight" // Llama 3.1's divisors, one for each pair

	hiddenActivation = "hidden_activation" // the key, after the architecture
)

// architecture is what the name of one implies.
type architecture struct {
	halves     bool // rotary pairs are element i and i + D/2, not 2i and 2i + 1
	subNorm    bool
	activation layers.Activation
}

// foreign are the architectures that are read without keys of tern's.
var foreign = map[string]architecture{
	Llama:      {},
	BitNet:     {halves: true, subNorm: true},
	bitnetB158: {halves: true, subNorm: true, activation: layers.ReLU2},
}

// foreignConfig reads what a file of another program says of its model. The
// sizes that only its tensors tell are left to the caller, who checks Vocab, 0 if
// the file does not say it.
func foreignConfig(meta gguf.Metadata, name string, a architecture) (model.Config, error) {
	m := metadata{m: meta}
	key := func(s string) string { return name + "." + s }
	c := model.Config{
		Dim: m.int(key("embedding_length")), Layers: m.int(key("block_count")), Context: m.int(key("context_length")),
		FFN: m.int(key("feed_forward_length")), Heads: m.int(key("attention.head_count")), Vocab: m.intOr(key("vocab_size"), 0),
		NormEps: m.float(key("attention.layer_norm_rms_epsilon")), RoPETheta: m.floatOr(key("rope.freq_base"), 10000),
		Quant: "none", Residual: "standard", Head: "f16", SubNorm: a.subNorm, Activation: string(a.activation),
	}
	c.KVHeads = m.intOr(key("attention.head_count_kv"), c.Heads)
	if w := m.intOr(key("attention.key_length"), 0); w != 0 && w*c.Heads != c.Dim {
		c.HeadWidth = w
	}
	if m.err != nil {
		return c, m.err
	}
	if c.HeadWidth == 0 && (c.Heads == 0 || c.Dim%c.Heads != 0) {
		return c, foreignError("%s is %d, no multiple of %s, %d", key("embedding_length"), c.Dim, key("attention.head_count"), c.Heads)
	}
	for k, want := range map[string]int{
		"attention.value_length": c.HeadDim(), "rope.dimension_count": c.HeadDim(), "expert_count": 0, "attention.sliding_window": 0,
	} {
		if got := m.intOr(key(k), want); m.err == nil && got != want {
			return c, foreignError("%s is %d; tern runs models with %d", key(k), got, want)
		}
	}
	m.activation(&c, name)
	m.ropeScaling(&c, name)
	return c, m.err
}

// activation reads the key by which converters of BitNet 2B4T say that it is
// squared ReLU under the name bitnet too, where without it it is SiLU. llama.cpp
// v0.5.0 does not read it there.
func (m *metadata) activation(c *model.Config, arch string) {
	key := arch + "." + hiddenActivation
	switch kind := m.stringOr(key, cmp.Or(c.Activation, string(layers.SiLU))); {
	case m.err != nil:
	case kind == string(layers.SiLU):
		c.Activation = ""
	case kind == string(layers.ReLU2) && arch != Llama:
		c.Activation = kind
	default:
		m.err = foreignError("%s is %q", key, kind)
	}
}

// foreignError reports a model that tern has no graph for.
func foreignError(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrModel, format, args...), "tern runs dense models of the LLaMA and BitNet families (docs/interop.md)")
}

// ropeScaling reads how rotary frequencies are scaled for a longer context.
func (m *metadata) ropeScaling(c *model.Config, arch string) {
	key := func(s string) string { return arch + ".rope.scaling." + s }
	kind := m.stringOr(key("type"), "linear")
	factor := m.floatOr(key("factor"), m.floatOr(arch+".rope.scale_linear", 1))
	if m.err != nil {
		return
	}
	if !(factor >= 1 && factor <= maxRoPE) {
		m.err = foreignError("%s is %v", key("factor"), factor)
		return
	}
	switch kind {
	case "none":
	case "linear":
		if factor != 1 {
			c.RoPEFactors = slices.Repeat([]float64{factor}, c.HeadDim()/2)
		}
	case "yarn":
		// llama.cpp reads no other keys of YaRN for these architectures.
		y := yarn{factor: factor, fast: 32, slow: 1, context: m.intOr(key("original_context_length"), c.Context)}
		c.RoPEFactors = y.factors(c.HeadDim(), c.RoPETheta)
		c.RoPEGain = 1 + 0.1*math.Log(factor)
	default:
		m.err = errors.CombineErrors(m.err, foreignError("%s is %q; tern knows none, linear and yarn", key("type"), kind))
	}
	if gain := m.floatOr(key("attn_factor"), 1); gain != 1 {
		c.RoPEGain = max(1, c.RoPEGain) * gain
	}
}

// yarn divides the low frequencies of rotary positions, by which no pair turns
// around within the context that a model was trained with, and leaves the high
// ones (Peng et al., arXiv 2309.00071, section 3.2).
type yarn struct {
	factor     float64 // by which the context is longer
	fast, slow float64 // turns within the old context above and below which a frequency is high and low
	context    int     // the old one
	between    bool    // the ramp may begin and end between two pairs
}

// factors returns the divisor of each of the d/2 frequencies.
func (y yarn) factors(d int, theta float64) []float64 {
	// The pair that makes so many turns.
	pair := func(turns float64) float64 {
		return float64(d) * math.Log(float64(y.context)/(turns*2*math.Pi)) / (2 * math.Log(theta))
	}
	low, high := pair(y.fast), pair(y.slow)
	if !y.between {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(0, low), min(float64(d-1), high)
	f := make([]float64, d/2)
	for i := range f {
		ramp := 1 - min(1, max(0, (float64(i)-low)/max(0.001, high-low))) // 1: the frequency stays
		f[i] = 1 / ((1-ramp)/y.factor + ramp)
	}
	return f
}

// intOr, floatOr and stringOr return def where the key is missing.
func (m *metadata) intOr(key string, def int) int           { return or(m, key, def, m.int) }
func (m *metadata) floatOr(key string, def float64) float64 { return or(m, key, def, m.float) }
func (m *metadata) stringOr(key, def string) string         { return or(m, key, def, m.string) }

func or[T any](m *metadata, key string, def T, get func(string) T) T {
	if _, ok := m.m.Get(key); !ok {
		return def
	}
	return get(key)
}
