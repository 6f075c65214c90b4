package huggingface

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
	OriginalMaxPositionEmbeddings int     // llama3, yarn
	AttentionFactor               float64 // yarn; 0: computed from Factor
	BetaFast, BetaSlow            float64 // yarn; 0: 32 and 1
}

// Quantization is quantization_config of the method "bitnet". All linear layers
// but lm_head and NotConverted are ternary, with one scale for each tensor.
type Quantization struct {
	LinearClass  string   // "bitlinear" or "autobitlinear"
	Mode         string   // "offline" or "online"
	UseRMSNorm   bool     // each linear layer has an RMSNorm before it: *.rms_norm.weight
	RMSNormEps   float64  // of those
	NotConverted []string // modules that stay as they are
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
