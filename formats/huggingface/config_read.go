package huggingface

import (
	"cmp"
	"encoding/json"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/errors"
)

// maxConfig bounds config.json and the other small files, in bytes.
const maxConfig = 1 << 20

// Limits that no model comes near.
const (
	maxWidth  = 1 << 20
	maxLayers = 1 << 14
	maxTokens = 1 << 20
	maxLength = 1 << 30
)

// ReadConfig reads the config.json of a directory. Members that are not known
// are ignored; defaults are those of the model type. Errors are ErrNotFound,
// ErrFormat, which names the member, and ErrUnsupported for other model types
// and other methods of quantization.
func ReadConfig(dir string) (*Config, error) {
	data, err := readBounded(filepath.Join(dir, "config.json"), maxConfig)
	if err != nil {
		return nil, err
	}
	return parseConfig(data)
}

func parseConfig(data []byte) (*Config, error) {
	f := parseFields("config.json", data)
	c := &Config{Architectures: f.texts("architectures"), ModelType: f.text("model_type", "")}
	if *f.err != nil {
		return nil, *f.err
	}
	if !slices.Contains([]string{"llama", "mistral", "bitnet"}, c.ModelType) {
		return nil, unsupported("config.json: model_type %q", c.ModelType)
	}
	c.readSizes(f)
	c.readRope(f)
	c.readTokens(f)
	act, eps := "silu", 1e-6
	if c.ModelType == "bitnet" {
		act, eps = "relu2", 1e-5
	}
	c.RMSNormEps = f.number("rms_norm_eps", eps, 0, 1)
	c.TieWordEmbeddings = f.boolean("tie_word_embeddings", false)
	c.HiddenAct = f.text("hidden_act", act)
	c.AttentionBias, c.MLPBias = f.boolean("attention_bias", false), f.boolean("mlp_bias", false)
	c.DType = f.text("torch_dtype", f.text("dtype", ""))
	c.WeightBits, c.InputBits = f.integer("weight_bits", 0, 0, 32), f.integer("input_bits", 0, 0, 32)
	err := c.readQuantization(f)
	if *f.err != nil {
		return nil, *f.err
	}
	return c, err
}

func (c *Config) readSizes(f fields) {
	need := func(name string, hi int) int {
		if !f.has(name) {
			f.fail(name, "missing")
		}
		return f.integer(name, 1, 1, hi)
	}
	c.HiddenSize = need("hidden_size", maxWidth)
	c.IntermediateSize = need("intermediate_size", 4*maxWidth)
	c.NumHiddenLayers = need("num_hidden_layers", maxLayers)
	c.NumAttentionHeads = need("num_attention_heads", maxWidth)
	c.VocabSize = need("vocab_size", maxTokens)
	kv := c.NumAttentionHeads
	if c.ModelType != "llama" && !f.has("num_key_value_heads") {
		f.fail("num_key_value_heads", "missing") // the types have other defaults than llama
	}
	c.NumKeyValueHeads = f.integer("num_key_value_heads", kv, 1, maxWidth)
	c.HeadDim = f.integer("head_dim", c.HiddenSize/c.NumAttentionHeads, 1, maxWidth)
	c.MaxPositionEmbeddings = f.integer("max_position_embeddings", 2048, 1, maxLength)
	if c.ModelType == "mistral" {
		c.SlidingWindow = f.integer("sliding_window", 0, 0, maxLength)
		if _, ok := f.members["sliding_window"]; !ok {
			c.SlidingWindow = 4096 // MistralConfig's, where null is none
		}
	}
	switch {
	case !f.has("head_dim") && c.HiddenSize%c.NumAttentionHeads != 0:
		f.fail("hidden_size", "%d is no multiple of num_attention_heads %d", c.HiddenSize, c.NumAttentionHeads)
	case c.NumAttentionHeads%c.NumKeyValueHeads != 0:
		f.fail("num_key_value_heads", "%d does not divide num_attention_heads %d", c.NumKeyValueHeads, c.NumAttentionHeads)
	case c.HeadDim%2 != 0:
		f.fail("head_dim", "%d is odd", c.HeadDim)
	}
}

// readRope takes rope_theta and rope_scaling, and the rope_parameters that
// transformers writes instead from version 5 on.
func (c *Config) readRope(f fields) {
	theta := 10000.0
	if c.ModelType == "bitnet" {
		theta = 500000
	}
	c.RopeTheta = f.number("rope_theta", theta, 1, 1e15)
	s := f.object("rope_scaling")
	if f.has("rope_parameters") {
		s = f.object("rope_parameters")
	}
	c.RopeTheta = s.number("rope_theta", c.RopeTheta, 1, 1e15)
	for _, o := range []fields{f, s} {
		if o.number("partial_rotary_factor", 1, 0, 1) != 1 {
			o.fail("partial_rotary_factor", "only 1 is supported")
		}
	}
	kind := s.text("rope_type", s.text("type", "default"))
	if kind == "default" {
		return
	}
	if kind != "longrope" && !s.has("factor") {
		s.fail("factor", "missing")
	}
	r := &RopeScaling{
		Type:                          kind,
		Factor:                        s.number("factor", 1, 1, 1e6),
		LowFreqFactor:                 s.number("low_freq_factor", 0, 0, 1e6),
		HighFreqFactor:                s.number("high_freq_factor", 0, 0, 1e6),
		OriginalMaxPositionEmbeddings: s.integer("original_max_position_embeddings", 0, 1, maxLength),
		AttentionFactor:               s.number("attention_factor", 0, 0, 1e6),
		MScale:                        s.number("mscale", 0, 0, 1e6),
		MScaleAllDim:                  s.number("mscale_all_dim", 0, 0, 1e6),
		BetaFast:                      s.number("beta_fast", 0, 0, 1e6),
		BetaSlow:                      s.number("beta_slow", 0, 0, 1e6),
		NotTruncated:                  !s.boolean("truncate", true),
	}
	if kind == "llama3" && !(r.LowFreqFactor > 0 && r.HighFreqFactor > r.LowFreqFactor) {
		s.fail("high_freq_factor", "llama3 needs 0 < low_freq_factor < high_freq_factor, not %v and %v", r.LowFreqFactor, r.HighFreqFactor)
	}
	if kind == "llama3" && r.OriginalMaxPositionEmbeddings == 0 {
		s.fail("original_max_position_embeddings", "missing")
	}
	if kind == "longrope" {
		c.readLongRope(r, f, s)
	}
	c.RopeScaling = r
}

// readLongRope takes the members of longrope in the object s of the file f. The
// original length stands beside the object in older files, where transformers looks
// first; the factor is the quotient of the lengths where s has none.
func (c *Config) readLongRope(r *RopeScaling, f, s fields) {
	original := cmp.Or(r.OriginalMaxPositionEmbeddings, c.MaxPositionEmbeddings)
	r.OriginalMaxPositionEmbeddings = f.integer("original_max_position_embeddings", original, 1, maxLength)
	if !s.has("factor") {
		r.Factor = max(1, float64(c.MaxPositionEmbeddings)/float64(r.OriginalMaxPositionEmbeddings))
	}
	r.ShortFactor = s.numbers("short_factor", c.HeadDim/2, 1e-3, 1e6)
	r.LongFactor = s.numbers("long_factor", c.HeadDim/2, 1e-3, 1e6)
}

// readTokens reads ids. Padding ids that are no token, such as -1, are common
// and mean nothing.
func (c *Config) readTokens(f fields) {
	last := c.VocabSize - 1
	c.BOS = int32(f.integer("bos_token_id", -1, -1, last))
	c.PAD = int32(f.integer("pad_token_id", -1, -maxLength, maxLength))
	if c.PAD < 0 || int(c.PAD) > last {
		c.PAD = -1
	}
	v := f.raw("eos_token_id")
	if v == nil {
		return
	}
	list := []json.RawMessage{v}
	if v[0] == '[' {
		f.decode("eos_token_id", "a list", &list)
	}
	for _, v := range list {
		one := fields{f.prefix, map[string]json.RawMessage{"eos_token_id": v}, f.err}
		if id := one.integer("eos_token_id", -1, -1, last); id >= 0 {
			c.EOS = append(c.EOS, int32(id))
		}
	}
}

func (c *Config) readQuantization(f fields) error {
	if !f.has("quantization_config") {
		return nil
	}
	q := f.object("quantization_config")
	if m := q.text("quant_method", ""); m != "bitnet" && *f.err == nil {
		return errors.WithHint(unsupported("config.json: quantization_config.quant_method %q", m), `only the method "bitnet" is read`)
	}
	c.Quantization = &Quantization{
		LinearClass:  q.text("linear_class", "bitlinear"),
		Mode:         q.text("quantization_mode", "offline"),
		UseRMSNorm:   q.boolean("use_rms_norm", false),
		RMSNormEps:   q.number("rms_norm_eps", 1e-6, 0, 1),
		NotConverted: q.texts("modules_to_not_convert"),
	}
	if l := c.Quantization.LinearClass; l != "bitlinear" && l != "autobitlinear" {
		q.fail("linear_class", "%q is neither bitlinear nor autobitlinear", l)
	}
	for _, p := range c.Quantization.NotConverted {
		if _, err := modulePattern(p); err != nil {
			q.fail("modules_to_not_convert", "%q is no regular expression that is read here: %v", p, err)
		}
	}
	if m := c.Quantization.Mode; m != "offline" && m != "online" {
		q.fail("quantization_mode", "%q is neither offline nor online", m)
	}
	return nil
}
