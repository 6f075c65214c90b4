package model

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/layers"
)

// ErrConfig is returned for a configuration that describes no model.
var ErrConfig = errors.New("bad model configuration")

// The heads that a model may have.
const (
	HeadTernary = "ternary" // quantized as the linears are, whatever their quantizer
	HeadInt8    = "int8"    // quantized by quant.Int8 in groups of 32, which is GGUF's Q8_0
	HeadF16     = "f16"     // not quantized; files hold it as f16
)

// Heads lists the heads.
var Heads = []string{HeadTernary, HeadInt8, HeadF16}

// Config sizes a model and names its parts.
type Config struct {
	Tokenizer string  `json:"tokenizer" yaml:"tokenizer"` // "gpt2", or "gpt2:4096" for its first ranks
	Vocab     int     `json:"vocab" yaml:"vocab"`
	Dim       int     `json:"dim" yaml:"dim"`
	Layers    int     `json:"layers" yaml:"layers"`
	Heads     int     `json:"heads" yaml:"heads"`
	KVHeads   int     `json:"kv_heads" yaml:"kv_heads"`
	FFN       int     `json:"ffn" yaml:"ffn"`
	Context   int     `json:"context" yaml:"context"` // most tokens of a sequence
	RoPETheta float64 `json:"rope_theta" yaml:"rope_theta"`
	NormEps   float64 `json:"norm_eps" yaml:"norm_eps"`
	Quant     string  `json:"quant" yaml:"quant"`       // spec of the linears' quantizer
	Residual  string  `json:"residual" yaml:"residual"` // spec of the residual
	Head      string  `json:"head" yaml:"head"`         // one of Heads
	Tied      bool    `json:"tied" yaml:"tied"`         // the head is the embedding; it is then f16
	SubNorm   bool    `json:"sub_norm" yaml:"sub_norm"` // RMSNorm before wo and down

	// What models of other programs have and tern's own leave out.

	HeadWidth   int       `json:"head_width,omitempty" yaml:"head_width,omitempty"`     // 0 is dim / heads
	Activation  string    `json:"activation,omitempty" yaml:"activation,omitempty"`     // of the feed-forward gate: "" or "silu", or "relu2"
	RoPEFactors []float64 `json:"rope_factors,omitempty" yaml:"rope_factors,omitempty"` // what the rotary frequencies are divided by, one for each pair
	RoPEGain    float64   `json:"rope_gain,omitempty" yaml:"rope_gain,omitempty"`       // what queries and keys are multiplied by; 0 is 1
}

// HeadDim is the width of one attention head.
func (c Config) HeadDim() int {
	if c.HeadWidth != 0 {
		return c.HeadWidth
	}
	return c.Dim / max(1, c.Heads)
}

// limits that keep a stranger's configuration from asking for the impossible.
const (
	maxVocab  = 1 << 20
	maxDim    = 1 << 16
	maxLayers = 1 << 10
	maxRows   = 1 << 20
)

// Validate reports the first thing that is wrong with c.
func (c Config) Validate() error {
	bad := func(hint, format string, args ...any) error {
		return errors.WithHint(errors.Wrapf(ErrConfig, format, args...), hint)
	}
	for _, f := range []struct {
		name       string
		value, max int
	}{
		{"vocab", c.Vocab, maxVocab},
		{"dim", c.Dim, maxDim},
		{"layers", c.Layers, maxLayers},
		{"heads", c.Heads, maxDim},
		{"kv_heads", c.KVHeads, maxDim},
		{"ffn", c.FFN, 8 * maxDim},
		{"context", c.Context, maxRows},
	} {
		if f.value < 1 || f.value > f.max {
			return bad("choose a value in that range", "%s is %d, wants 1 to %d", f.name, f.value, f.max)
		}
	}
	switch {
	case c.HeadWidth < 0 || c.HeadWidth > maxDim:
		return bad("leave it out, or choose a value in that range", "head_width is %d, wants 1 to %d", c.HeadWidth, maxDim)
	case c.HeadWidth == 0 && c.Dim%c.Heads != 0:
		return bad("dim is heads times the width of a head", "dim %d is no multiple of heads %d", c.Dim, c.Heads)
	case c.HeadDim()%2 != 0:
		return bad("rotary positions turn pairs of elements", "width %d of a head is odd", c.HeadDim())
	case c.Heads%c.KVHeads != 0:
		return bad(fmt.Sprintf("each key head serves equally many query heads: --kv-heads %d fits", gcd(c.Heads, c.KVHeads)), "heads %d is no multiple of kv_heads %d", c.Heads, c.KVHeads)
	case !(c.NormEps > 0 && c.NormEps < 1):
		return bad("1e-6 is usual", "norm_eps is %v", c.NormEps)
	case !(c.RoPETheta >= 1 && c.RoPETheta <= 1e9):
		return bad("10000 is usual", "rope_theta is %v", c.RoPETheta)
	case c.Tied && c.Head != HeadF16:
		return bad("set head to f16, or tied to false", "a tied head is the embedding, which is not %s", c.Head)
	case !slices.Contains(Heads, c.Head):
		return errors.WithHint(errors.Wrapf(ErrConfig, "head %q", c.Head), framework.Suggest(c.Head, Heads))
	case c.Head == HeadInt8 && c.Dim%int8Head.Group != 0:
		return bad("choose another dim or head", "dim %d is no multiple of %d, the weights that share a scale in an int8 head", c.Dim, int8Head.Group)
	case c.Activation != "" && !slices.Contains(layers.Activations, layers.Activation(c.Activation)):
		return bad(fmt.Sprintf("choose one of %v", layers.Activations), "activation %q", c.Activation)
	}
	return c.validateRoPE()
}

// validateRoPE checks how rotary positions are scaled.
func (c Config) validateRoPE() error {
	bad := func(format string, args ...any) error {
		return errors.WithHint(errors.Wrapf(ErrConfig, format, args...), "leave it out: it belongs to models with a scaled context")
	}
	if c.RoPEFactors != nil && len(c.RoPEFactors) != c.HeadDim()/2 {
		return bad("rope_factors has %d values, wants one for each of the %d pairs of a head", len(c.RoPEFactors), c.HeadDim()/2)
	}
	for i, f := range c.RoPEFactors {
		if !(f >= 1e-3 && f <= 1e6) {
			return bad("rope_factors: value %d is %v", i, f)
		}
	}
	if c.RoPEGain != 0 && !(c.RoPEGain > 0.01 && c.RoPEGain < 100) {
		return bad("rope_gain is %v", c.RoPEGain)
	}
	return nil
}

// gcd is the largest number that divides both.
func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// presets are models by name. The widths of tiny and the recipe that goes with
// it were chosen by experiment (docs/results/tiny.md).
var presets = map[string]Config{
	"tiny": {
		Tokenizer: "gpt2:4096", Vocab: 4096, Dim: 128, Layers: 4, Heads: 4, KVHeads: 4, FFN: 384, Context: 512,
		RoPETheta: 10000, NormEps: 1e-6, Quant: "ternary:group=128", Residual: "mhclite:streams=2", Head: "f16", Tied: true, SubNorm: true,
	},
	"stories": { // the model that ships (stories/MODEL_CARD.md)
		Tokenizer: "gpt2:3072", Vocab: 3072, Dim: 256, Layers: 6, Heads: 4, KVHeads: 4, FFN: 640, Context: 512,
		RoPETheta: 10000, NormEps: 1e-6, Quant: "ternary:group=128", Residual: "mhclite:streams=2", Head: "f16", Tied: true, SubNorm: true,
	},
	"nano-125m": {
		Tokenizer: "gpt2", Vocab: 50257, Dim: 768, Layers: 12, Heads: 12, KVHeads: 12, FFN: 2048, Context: 2048,
		RoPETheta: 10000, NormEps: 1e-6, Quant: "ternary:group=128", Residual: "mhclite:streams=2", Head: "ternary",
	},
}

// Presets returns the names of the presets, sorted.
func Presets() []string {
	names := make([]string, 0, len(presets))
	for n := range presets {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Preset returns the named configuration.
func Preset(name string) (Config, error) {
	c, ok := presets[name]
	if !ok {
		return Config{}, errors.WithHint(errors.Wrapf(framework.ErrUnknown, "preset %q", name), framework.Suggest(name, Presets()))
	}
	return c, nil
}
