package huggingface

import (
	"regexp"
	"slices"
	"strings"
)

// Config is a config.json, as transformers' LlamaConfig, MistralConfig and
// BitNetConfig have it.
type Config struct {
	Architectures []string // such as "LlamaForCausalLM"
	ModelType     string   // "llama", "mistral" or "bitnet"

	HiddenSize            int // width of the stream
	IntermediateSize      int // width of the feed-forward layer
	NumHiddenLayers       int
	NumAttentionHeads     int
	NumKeyValueHeads      int // a divisor of NumAttentionHeads
	HeadDim               int // HiddenSize/NumAttentionHeads where the file has none
	VocabSize             int
	MaxPositionEmbeddings int
	SlidingWindow         int // 0: every position sees all before it

	RMSNormEps        float64
	RopeTheta         float64
	RopeScaling       *RopeScaling // nil for none
	TieWordEmbeddings bool         // lm_head is model.embed_tokens
	HiddenAct         string       // "silu", "relu2", ...
	AttentionBias     bool
	MLPBias           bool
	DType             string // "bfloat16", ...; "" where the file has none

	BOS, PAD int32   // -1 for none
	EOS      []int32 // any of them ends a text

	// WeightBits and InputBits are those of 1bitLLM's models, whose weights are
	// full precision ones to be quantized (1 says ternary); 0 where absent.
	WeightBits, InputBits int
	Quantization          *Quantization // nil for none
}

// RopeScaling says how rotary frequencies are changed (transformers'
// modeling_rope_utils). What a type does not use is 0.
type RopeScaling struct {
	Type                          string  // "linear", "dynamic", "yarn", "llama3", "longrope"
	Factor                        float64 // at least 1
	LowFreqFactor, HighFreqFactor float64 // llama3
	OriginalMaxPositionEmbeddings int     // llama3, yarn, longrope
	AttentionFactor               float64 // yarn, longrope; 0: computed from Factor and, for yarn, the next two
	MScale, MScaleAllDim          float64 // yarn, of DeepSeek's files; 0: absent
	BetaFast, BetaSlow            float64 // yarn; 0: 32 and 1
	NotTruncated                  bool    // yarn; the pairs between which it goes over need not be whole
	// ShortFactor and LongFactor are what longrope divides each of the HeadDim/2
	// frequencies by, in texts of up to OriginalMaxPositionEmbeddings and in longer ones.
	ShortFactor, LongFactor []float64
}

// Quantization is quantization_config of the method "bitnet". The linear layers
// that Converts tells are ternary, with one scale for each tensor.
type Quantization struct {
	LinearClass  string   // "bitlinear" or "autobitlinear"
	Mode         string   // "offline" or "online"
	UseRMSNorm   bool     // each linear layer has an RMSNorm before it: *.rms_norm.weight
	RMSNormEps   float64  // of those
	NotConverted []string // patterns of modules that stay as they are; nil: lm_head
}

// Converts reports whether the linear layer of that name, such as
// "model.layers.0.mlp.up_proj", is ternary: no pattern is its end, and none as a
// regular expression is its beginning up to a point or all of it
// (should_convert_module of transformers' quantizers_utils.py). A list without
// lm_head has the head converted too.
func (q *Quantization) Converts(module string) bool {
	if q.NotConverted == nil {
		return module != "lm_head"
	}
	return !slices.ContainsFunc(q.NotConverted, func(pattern string) bool {
		return strings.HasSuffix(module, pattern) || begins(module, pattern)
	})
}

// begins reports whether a pattern matches a module's name up to a boundary: the
// place before a point, that after one, or the end.
func begins(module, pattern string) bool {
	whole, err := modulePattern(pattern)
	if err != nil {
		return false // readQuantization refuses it
	}
	for i := range len(module) + 1 {
		boundary := i == len(module) || module[i] == '.' || i > 0 && module[i-1] == '.'
		if boundary && whole.MatchString(module[:i]) {
			return true
		}
	}
	return false
}

// modulePattern compiles a pattern of NotConverted.
func modulePattern(pattern string) (*regexp.Regexp, error) {
	return regexp.Compile("^(?:" + pattern + ")$")
}

// The three ways in which transformers' integrations/bitnet.py stores weights.
// They differ in what a weight_scale means.
const (
	// Divide: packed codes; the layer computes codes·x / weight_scale. This is
	// class "bitlinear", of either mode. The scale is 1/mean(|w|).
	Divide Scaling = iota + 1
	// Multiply: packed codes, or the codes themselves as floats; the layer
	// computes (codes·x) * weight_scale. This is "autobitlinear", "offline". A
	// weight that is not packed is taken as it is, times the scale.
	Multiply
	// Online: full precision weights w without a scale, quantized in every
	// pass: clamp(round(w/s), -1, 1) * s with s = max(mean(|w|), 1e-5). This
	// is "autobitlinear", "online".
	Online
)

// Scaling is what the weight_scale of a quantized layer means.
type Scaling int

// Scaling returns how the layers' weights are to be read.
func (q *Quantization) Scaling() Scaling {
	switch {
	case q.LinearClass != "autobitlinear":
		return Divide
	case q.Mode == "online":
		return Online
	}
	return Multiply
}
