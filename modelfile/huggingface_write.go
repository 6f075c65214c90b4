package modelfile

import (
	"io"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/formats/huggingface"
	"github.com/ternlm/tern/formats/safetensors"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/tokenizer"
)

// HuggingFaceTypes are the tensor types that WriteHuggingFace takes.
var HuggingFaceTypes = []ggml.Type{ggml.F16, ggml.BF16, ggml.F32}

// WriteHuggingFace writes the weights to the directory dir in the Hugging Face
// layout, matrices in type t, one of HuggingFaceTypes. F16 holds ternary weights
// with f16 scales as they are. The model is a LlamaForCausalLM or, with norms
// before the last matrices, a BitNetForCausalLM; others are ErrArchitecture.
func (w *Weights) WriteHuggingFace(dir string, t ggml.Type) (Loss, error) {
	arch := Llama
	if w.Model.SubNorm {
		arch = BitNet
	}
	if err := w.CheckLlama(arch); err != nil {
		return Loss{}, err
	}
	c, err := w.huggingFaceConfig(t)
	if err != nil {
		return Loss{}, err
	}
	l := llamaWriter{w: w, arch: arch, halves: true, LlamaOptions: LlamaOptions{Arch: arch, Type: t}}
	if err := l.collect(); err != nil {
		return Loss{}, err
	}
	var entries []safetensors.Entry
	for _, info := range l.out {
		e, err := huggingFaceEntry(info, t)
		if err != nil {
			return Loss{}, err
		}
		entries = append(entries, e)
	}
	var v *tokenizer.Vocabulary
	if tok, err := w.Tokenizer(); err == nil {
		if v, err = tok.Vocabulary(); err != nil {
			return Loss{}, err
		}
		v = padded(v, c.VocabSize)
		c.BOS, c.EOS, c.PAD = v.BOS, []int32{v.EOS}, v.PAD
	}
	err = huggingface.Write(dir, c, v, entries)
	return l.loss, errors.Wrapf(err, "write %s", dir)
}

// huggingFaceConfig is the config.json of the model with matrices of type t.
func (w *Weights) huggingFaceConfig(t ggml.Type) (*huggingface.Config, error) {
	m := w.Model.Config
	c := &huggingface.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", HiddenSize: m.Dim, IntermediateSize: m.FFN,
		NumHiddenLayers: m.Layers, NumAttentionHeads: m.Heads, NumKeyValueHeads: m.KVHeads, HeadDim: m.HeadDim(), VocabSize: m.Vocab,
		MaxPositionEmbeddings: m.Context, RMSNormEps: m.NormEps, RopeTheta: m.RoPETheta, TieWordEmbeddings: m.Tied, HiddenAct: "silu",
		DType: map[ggml.Type]string{ggml.F16: "float16", ggml.BF16: "bfloat16", ggml.F32: "float32"}[t], BOS: -1, PAD: -1,
	}
	if m.SubNorm {
		c.Architectures, c.ModelType = []string{"BitNetForCausalLM"}, "bitnet"
	}
	if m.Activation != "" {
		c.HiddenAct = m.Activation
	}
	f := m.RoPEFactors
	if f == nil && m.RoPEGain == 0 {
		return c, nil
	}
	if f == nil || m.RoPEGain != 0 || slices.ContainsFunc(f, func(v float64) bool { return v != f[0] }) {
		return nil, errors.WithHint(errors.Wrap(ErrArchitecture, "config.json has no form for the model's scaled rotary frequencies but one factor for all"), "convert it to GGUF")
	}
	c.RopeScaling = &huggingface.RopeScaling{Type: "linear", Factor: f[0]}
	return c, nil
}

// huggingFaceEntry describes a tensor of a GGUF file under transformers' name.
func huggingFaceEntry(info gguf.TensorInfo, t ggml.Type) (safetensors.Entry, error) {
	name, ok := huggingface.TensorName(info.Name)
	if !ok {
		return safetensors.Entry{}, errors.AssertionFailedf("tensor %q has no name in transformers", info.Name)
	}
	typ := t
	if len(info.Shape) == 1 {
		typ = info.Type // gains stay as they are
	}
	d, ok := typ.DType()
	if !ok {
		return safetensors.Entry{}, errors.Wrapf(ggml.ErrType, "%v is no type of safetensors", typ)
	}
	write := info.Data
	if typ != info.Type {
		write = func(out io.Writer) error {
			x, err := plain(info)
			if err != nil {
				return err
			}
			size, err := typ.Bytes(info.Shape)
			if err != nil {
				return err
			}
			data := make([]byte, size)
			if err := typ.Quantize(data, x.F32()); err != nil {
				return errors.Wrapf(err, "tensor %q", name)
			}
			_, err = out.Write(data)
			return err
		}
	}
	return safetensors.Entry{Name: name, Type: tensor.Type{DType: d, Shape: info.Shape}, Data: write}, nil
}
