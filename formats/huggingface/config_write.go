package huggingface

import (
	"bytes"
	"reflect"
	"strconv"

	"github.com/cockroachdb/errors"
)

// decimal is a number that Python must not take for an int: some versions of
// transformers refuse one where they want a float.
type decimal float64

// MarshalJSON writes a point or an exponent in any case.
func (d decimal) MarshalJSON() ([]byte, error) {
	b := strconv.AppendFloat(nil, float64(d), 'g', -1, 64)
	if !bytes.ContainsAny(b, ".eIN") {
		b = append(b, ".0"...)
	}
	return b, nil
}

// configFile is config.json in the order in which it is written.
type configFile struct {
	Architectures         []string          `json:"architectures,omitempty"`
	AttentionBias         bool              `json:"attention_bias"`
	BOS                   *int32            `json:"bos_token_id"`
	EOS                   any               `json:"eos_token_id"`
	HeadDim               int               `json:"head_dim"`
	HiddenAct             string            `json:"hidden_act"`
	HiddenSize            int               `json:"hidden_size"`
	InputBits             int               `json:"input_bits,omitempty"`
	IntermediateSize      int               `json:"intermediate_size"`
	MaxPositionEmbeddings int               `json:"max_position_embeddings"`
	MLPBias               bool              `json:"mlp_bias"`
	ModelType             string            `json:"model_type"`
	NumAttentionHeads     int               `json:"num_attention_heads"`
	NumHiddenLayers       int               `json:"num_hidden_layers"`
	NumKeyValueHeads      int               `json:"num_key_value_heads"`
	PAD                   *int32            `json:"pad_token_id"`
	Quantization          *quantizationFile `json:"quantization_config,omitempty"`
	RMSNormEps            decimal           `json:"rms_norm_eps"`
	RopeScaling           *ropeFile         `json:"rope_scaling"`
	RopeTheta             decimal           `json:"rope_theta"`
	SlidingWindow         any               `json:"sliding_window,omitempty"`
	TieWordEmbeddings     bool              `json:"tie_word_embeddings"`
	DType                 string            `json:"torch_dtype,omitempty"`
	VocabSize             int               `json:"vocab_size"`
	WeightBits            int               `json:"weight_bits,omitempty"`
}

type quantizationFile struct {
	LinearClass  string   `json:"linear_class"`
	NotConverted []string `json:"modules_to_not_convert"`
	Method       string   `json:"quant_method"`
	Mode         string   `json:"quantization_mode"`
	RMSNormEps   decimal  `json:"rms_norm_eps"`
	UseRMSNorm   bool     `json:"use_rms_norm"`
}

type ropeFile struct {
	Type            string  `json:"rope_type"`
	Factor          decimal `json:"factor"`
	LowFreqFactor   decimal `json:"low_freq_factor,omitempty"`
	HighFreqFactor  decimal `json:"high_freq_factor,omitempty"`
	Original        int     `json:"original_max_position_embeddings,omitempty"`
	AttentionFactor decimal `json:"attention_factor,omitempty"`
	MScale          decimal `json:"mscale,omitempty"`
	MScaleAllDim    decimal `json:"mscale_all_dim,omitempty"`
	BetaFast        decimal `json:"beta_fast,omitempty"`
	BetaSlow        decimal `json:"beta_slow,omitempty"`
	Truncate        *bool   `json:"truncate,omitempty"`

	ShortFactor []decimal `json:"short_factor,omitempty"`
	LongFactor  []decimal `json:"long_factor,omitempty"`
}

// encode returns config.json and refuses what ReadConfig would read otherwise.
func (c *Config) encode() ([]byte, error) {
	f := configFile{
		Architectures: c.Architectures, ModelType: c.ModelType, HiddenSize: c.HiddenSize, IntermediateSize: c.IntermediateSize,
		NumHiddenLayers: c.NumHiddenLayers, NumAttentionHeads: c.NumAttentionHeads, NumKeyValueHeads: c.NumKeyValueHeads,
		HeadDim: c.HeadDim, VocabSize: c.VocabSize, MaxPositionEmbeddings: c.MaxPositionEmbeddings, SlidingWindow: c.slidingWindow(),
		RMSNormEps: decimal(c.RMSNormEps), RopeTheta: decimal(c.RopeTheta), TieWordEmbeddings: c.TieWordEmbeddings, HiddenAct: c.HiddenAct,
		AttentionBias: c.AttentionBias, MLPBias: c.MLPBias, DType: c.DType, BOS: orNull(c.BOS), PAD: orNull(c.PAD), EOS: c.end(),
		WeightBits: c.WeightBits, InputBits: c.InputBits,
	}
	if r := c.RopeScaling; r != nil {
		f.RopeScaling = r.file()
	}
	if q := c.Quantization; q != nil {
		f.Quantization = &quantizationFile{q.LinearClass, q.NotConverted, "bitnet", q.Mode, decimal(q.RMSNormEps), q.UseRMSNorm}
	}
	data, err := encode(f)
	if err != nil {
		return nil, err
	}
	back, err := parseConfig(data)
	if err != nil {
		return nil, errors.Mark(unwritable("%v", err), err)
	}
	if !reflect.DeepEqual(back, c) {
		return nil, unwritable("config.json would be read as %+v, not as %+v", *back, *c)
	}
	return data, nil
}

func (r *RopeScaling) file() *ropeFile {
	f := &ropeFile{
		r.Type, decimal(r.Factor), decimal(r.LowFreqFactor), decimal(r.HighFreqFactor), r.OriginalMaxPositionEmbeddings,
		decimal(r.AttentionFactor), decimal(r.MScale), decimal(r.MScaleAllDim), decimal(r.BetaFast), decimal(r.BetaSlow), nil,
		decimals(r.ShortFactor), decimals(r.LongFactor),
	}
	if r.NotTruncated {
		f.Truncate = new(bool)
	}
	return f
}

func decimals(v []float64) []decimal {
	out := make([]decimal, len(v))
	for i, x := range v {
		out[i] = decimal(x)
	}
	return out
}

// slidingWindow is left out where it is 0, but of Mistral's models, which would
// then have one: there it is null.
func (c *Config) slidingWindow() any {
	switch {
	case c.SlidingWindow > 0:
		return c.SlidingWindow
	case c.ModelType == "mistral":
		return (*int)(nil) // which, unlike nil, is not omitted
	}
	return nil
}

func orNull(id int32) *int32 {
	if id < 0 {
		return nil
	}
	return &id
}

// end is eos_token_id: null, one id or a list.
func (c *Config) end() any {
	switch len(c.EOS) {
	case 0:
		return nil
	case 1:
		return c.EOS[0]
	}
	return c.EOS
}

// encodeGeneration returns generation_config.json.
func (c *Config) encodeGeneration() ([]byte, error) {
	return encode(struct {
		BOS *int32 `json:"bos_token_id"`
		EOS any    `json:"eos_token_id"`
		PAD *int32 `json:"pad_token_id,omitempty"`
	}{orNull(c.BOS), c.end(), orNull(c.PAD)})
}
