package modelfile

import (
	"cmp"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/huggingface"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/layers"
	"github.com/ternlm/tern/model"
)

// ReadHuggingFace reads the LLaMA or BitNet model in a directory of the Hugging
// Face layout (config.json, safetensors, a tokenizer). The caller closes the
// weights.
func ReadHuggingFace(dir string) (*Weights, error) {
	d, err := huggingface.Open(dir)
	if err != nil {
		return nil, err
	}
	w, err := fromHuggingFace(d)
	if err != nil {
		return nil, errors.CombineErrors(errors.Wrapf(err, "%s", dir), d.Close())
	}
	w.Info.Name = filepath.Base(filepath.Clean(dir))
	w.close = d.Close
	return w, nil
}

func fromHuggingFace(d *huggingface.Dir) (*Weights, error) {
	c, err := huggingFaceConfig(d.Config)
	if err != nil {
		return nil, err
	}
	// transformers turns element i of a head with element i + D/2.
	m := foreignModel{config: c, halves: true, weights: map[string]*weight{}}
	for _, name := range d.Names() {
		file, ok := huggingface.FileName(name)
		switch {
		case !ok && strings.HasSuffix(name, ".rotary_emb.inv_freq"):
			continue // what the configuration says, stored
		case !ok || strings.HasSuffix(file, ".bias"):
			return nil, foreignError("tensor %q has no place in the model", name)
		case strings.HasSuffix(file, ".scale"):
			if linear := strings.TrimSuffix(file, ".scale") + ".weight"; !linearFile(linear) {
				return nil, foreignError("tensor %q is the scale of what is no linear layer of a block", name)
			}
			continue // read with its codes
		case c.Tied && file == fileName("lm_head.weight"):
			continue // a copy of the embedding
		}
		if m.weights[file], err = huggingFaceWeight(d, name, file); err != nil {
			return nil, err
		}
		if _, ok := blockNorm(file); ok {
			m.config.SubNorm = true
		}
	}
	m.vocabulary, err = d.Vocabulary()
	if err != nil && !errors.Is(err, huggingface.ErrNotFound) {
		return nil, err
	}
	return m.open()
}

// blockNorm tells the norms before the last matrix of a sub-layer.
func blockNorm(file string) (string, bool) {
	return strings.CutSuffix(file, "_sub_norm.weight")
}

// huggingFaceConfig translates a config.json.
func huggingFaceConfig(h *huggingface.Config) (model.Config, error) {
	c := model.Config{
		Dim: h.HiddenSize, Layers: h.NumHiddenLayers, Heads: h.NumAttentionHeads, KVHeads: h.NumKeyValueHeads, FFN: h.IntermediateSize,
		Context: h.MaxPositionEmbeddings, NormEps: h.RMSNormEps, RoPETheta: h.RopeTheta, Tied: h.TieWordEmbeddings,
		Quant: "none", Residual: "standard", Head: "f16",
	}
	if h.HeadDim*h.NumAttentionHeads != h.HiddenSize {
		c.HeadWidth = h.HeadDim
	}
	if h.SlidingWindow > 0 {
		c.Context = min(c.Context, h.SlidingWindow) // up to there all positions are seen
	}
	switch {
	case h.AttentionBias || h.MLPBias:
		return c, foreignError("its linear layers have biases")
	case h.HiddenAct == "relu2":
		c.Activation = string(layers.ReLU2)
	case h.HiddenAct != "silu":
		return c, foreignError("hidden_act is %q; tern knows silu and relu2", h.HiddenAct)
	}
	if q := h.Quantization; q != nil {
		if q.UseRMSNorm {
			return c, foreignError("quantization_config has use_rms_norm, a norm before each linear layer")
		}
		if q.Converts("lm_head") {
			return c, errors.WithHint(foreignError("quantization_config has modules_to_not_convert without lm_head, so that the head is ternary"),
				"transformers before version 5 left the head as it is all the same: if the model is of then, add \"lm_head\" to the list in config.json")
		}
	}
	return c, scaleRoPE(&c, h.RopeScaling)
}

// scaleRoPE translates the scaling of rotary frequencies.
func scaleRoPE(c *model.Config, s *huggingface.RopeScaling) error {
	if s == nil {
		return nil
	}
	original := s.OriginalMaxPositionEmbeddings
	if original == 0 {
		original = c.Context
	}
	switch s.Type {
	case "linear":
		c.RoPEFactors = slices.Repeat([]float64{s.Factor}, c.HeadDim()/2)
	case "yarn":
		y := yarn{factor: s.Factor, fast: cmp.Or(s.BetaFast, 32), slow: cmp.Or(s.BetaSlow, 1), context: original, between: s.NotTruncated}
		c.RoPEFactors = y.factors(c.HeadDim(), c.RoPETheta)
		c.RoPEGain = cmp.Or(s.AttentionFactor, yarnGain(s))
	case "llama3":
		c.RoPEFactors = llama3Factors(c, s, float64(original))
	case "longrope":
		c.RoPEFactors = slices.Clone(s.ShortFactor)
		if g := cmp.Or(s.AttentionFactor, longRoPEGain(s.Factor, original)); g != 1 {
			c.RoPEGain = g
		}
		if !slices.Equal(s.ShortFactor, s.LongFactor) {
			c.Context = min(c.Context, original) // a longer text has other factors, at its first token too
		}
	default:
		return foreignError("rope_scaling is %q; tern knows linear, yarn, llama3 and longrope", s.Type)
	}
	return nil
}

// longRoPEGain is what queries and keys are multiplied by where the file does not
// say (LongRoPE, arXiv 2402.13753, as transformers' _compute_longrope_parameters).
func longRoPEGain(factor float64, original int) float64 {
	return math.Sqrt(1 + math.Log(factor)/math.Log(float64(max(original, 2)))) // 1 for a factor of 1
}

// yarnGain is what queries and keys are multiplied by where the file does not say
// (_compute_yarn_parameters of transformers' modeling_rope_utils.py).
func yarnGain(s *huggingface.RopeScaling) float64 {
	gain := func(m float64) float64 { return 1 + 0.1*m*math.Log(s.Factor) }
	if s.MScale != 0 && s.MScaleAllDim != 0 {
		return gain(s.MScale) / gain(s.MScaleAllDim)
	}
	return gain(1)
}

// llama3Factors divides low frequencies by the factor, leaves high ones and goes
// from one to the other between (Llama 3.1's rope_scaling).
func llama3Factors(c *model.Config, s *huggingface.RopeScaling, original float64) []float64 {
	f := make([]float64, c.HeadDim()/2)
	for i := range f {
		turns := original * math.Pow(c.RoPETheta, -2*float64(i)/float64(c.HeadDim())) / (2 * math.Pi) // within the old context
		stay := min(1, max(0, (turns-s.LowFreqFactor)/(s.HighFreqFactor-s.LowFreqFactor)))
		f[i] = 1 / ((1-stay)/s.Factor + stay)
	}
	return f
}

// huggingFaceWeight describes a tensor, which file is GGUF's name of.
func huggingFaceWeight(d *huggingface.Dir, name, file string) (*weight, error) {
	info, err := d.Info(name)
	if err != nil {
		return nil, err
	}
	if info.DType == "U8" {
		return packedWeight(d, name, info.Shape)
	}
	t, err := ggml.TypeOf(info.Type.DType)
	if err != nil {
		return nil, foreignError("tensor %q is of type %s", name, info.DType)
	}
	view := func(use func([]byte) error) error {
		x, err := d.Tensor(name)
		if err != nil {
			return err
		}
		return use(x.Data)
	}
	w := blocks(t, info.Shape, source{view: view, read: func(dst []byte) error { return d.ReadInto(name, dst) }})
	if len(info.Shape) != 2 || !linearFile(file) {
		return w, nil
	}
	online := quantizedByConfig(d.Config, name)
	scale, scaled := weightScale(d, name)
	if !online && !scaled {
		return w, nil
	}
	w.codes = layers.Stored{Format: oneScale}
	w.readCodes = func([]byte) (ggml.Codes, error) {
		x, err := w.readFloats(nil)
		if err != nil {
			return ggml.Codes{}, err
		}
		if online {
			return absmean(matrix{floats: x}.f32()), nil
		}
		s, err := scale()
		if err != nil {
			return ggml.Codes{}, err
		}
		return levelsOf(matrix{floats: x}.f32(), s)
	}
	return w, nil
}

// oneScale is the format of BitNet's weights: ternary, one scale for a tensor.
var oneScale = framework.Format{Bits: 2, Levels: ternaryLevels, Group: framework.GroupTensor, ActBits: 8}

// linearFile reports whether a tensor of a file is the weight of a linear layer.
func linearFile(file string) bool {
	for _, last := range []string{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"} {
		if strings.HasSuffix(file, "."+last+".weight") {
			return true
		}
	}
	return false
}

// quantizedByConfig reports whether a linear's weight that is stored in full
// precision is quantized in every pass.
func quantizedByConfig(c *huggingface.Config, name string) bool {
	q := c.Quantization
	if q == nil {
		return c.WeightBits == 1
	}
	return q.Scaling() == huggingface.Online && q.Converts(strings.TrimSuffix(name, ".weight"))
}

// weightScale returns what reads the factor of a weight's codes, and whether it
// has one.
func weightScale(d *huggingface.Dir, name string) (read func() (float32, error), ok bool) {
	name = strings.TrimSuffix(name, ".weight") + ".weight_scale"
	info, err := d.Info(name)
	if err != nil {
		return nil, false
	}
	return func() (float32, error) {
		t, err := d.Tensor(name)
		if err != nil {
			return 0, err
		}
		typ, err := ggml.TypeOf(t.DType)
		if err != nil || info.Shape.Numel() != 1 {
			return 0, foreignError("tensor %q is %v, wants one number", name, t.Type)
		}
		var v [1]float32
		if err := typ.Dequantize(v[:], t.Data); err != nil {
			return 0, err
		}
		if d.Config.Quantization == nil || d.Config.Quantization.Scaling() == huggingface.Divide {
			v[0] = 1 / v[0]
		}
		return v[0], nil
	}, true
}

// packedWeight describes codes, four to a byte, of shape [M/4, K].
func packedWeight(d *huggingface.Dir, name string, s tensor.Shape) (*weight, error) {
	scale, ok := weightScale(d, name)
	if len(s) != 2 || !ok {
		return nil, foreignError("tensor %q is bytes %v and has no weight_scale: no packed weight", name, s)
	}
	w := &weight{shape: tensor.Shape{4 * s[0], s[1]}, codes: layers.Stored{Format: oneScale}, float: tensor.F32}
	w.readCodes = func([]byte) (c ggml.Codes, err error) {
		packed, err := d.Tensor(name)
		if err != nil {
			return c, err
		}
		v, err := scale()
		if err != nil {
			return c, err
		}
		if c.Codes, err = huggingface.Unpack(packed); err != nil {
			return c, err
		}
		c.Levels, c.Scales = ternaryLevels, one(v)
		return c, nil
	}
	w.readFloats = func([]byte) (*tensor.Tensor, error) {
		return nil, foreignError("tensor %q is packed, but no linear layer's weight", name)
	}
	return w, nil
}

// one is a single scale.
func one(v float32) *tensor.Tensor {
	t := tensor.New(tensor.T(tensor.F32, 1, 1))
	t.F32()[0] = v
	return t
}

// absmean quantizes a weight as BitNet b1.58 does in every pass (arXiv
// 2402.17764, equations 1 to 3), with one scale: the mean magnitude.
func absmean(w *tensor.Tensor) ggml.Codes {
	var sum float64
	for _, v := range w.F32() {
		sum += math.Abs(float64(v))
	}
	s := max(float32(sum/float64(len(w.F32()))), 1e-5)
	return ggml.Codes{Codes: nearestLevels(w, s), Scales: one(s), Levels: ternaryLevels}
}

// nearestLevels are the codes of w/s, rounded half to even and clamped to -1 and 1.
func nearestLevels(w *tensor.Tensor, s float32) *tensor.Tensor {
	codes := tensor.New(tensor.Type{DType: tensor.U2, Shape: w.Shape})
	k, rowBytes := w.Shape[1], len(codes.Data)/w.Shape[0]
	for i, v := range w.F32() {
		level := math.RoundToEven(float64(min(1, max(-1, v/s))))
		codes.Data[i/k*rowBytes+i%k/4] |= byte(level+1) << (i % k % 4 * 2)
	}
	return codes
}

// levelsOf takes weights that are -1, 0 and 1 already.
func levelsOf(w *tensor.Tensor, s float32) (ggml.Codes, error) {
	for i, v := range w.F32() {
		if v != -1 && v != 0 && v != 1 {
			return ggml.Codes{}, foreignError("weight %d is %v, neither -1, 0 nor 1, though it has a scale", i, v)
		}
	}
	return ggml.Codes{Codes: nearestLevels(w, 1), Scales: one(s), Levels: ternaryLevels}, nil // which rounds nothing
}
