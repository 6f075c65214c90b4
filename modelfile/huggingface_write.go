package modelfile

import (
	"cmp"
	"io"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/formats/huggingface"
	"github.com/ternlm/tern/formats/safetensors"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/tokenizer"
)

// HuggingFaceTypes are the tensor types that WriteHuggingFace takes.
var HuggingFaceTypes = []ggml.Type{ggml.F16, ggml.BF16, ggml.F32}

// HuggingFaceOptions say how WriteHuggingFace writes.
type HuggingFaceOptions struct {
	Type ggml.Type // of matrices, one of HuggingFaceTypes
	// Packed writes ternary linear layers as bytes of four codes with one scale for
	// each layer; Type is that of the other matrices. See PackedType.
	Packed bool
}

// WriteHuggingFace writes the weights to the directory dir in the Hugging Face
// layout. F16 holds ternary weights with f16 scales as they are. The model is a
// LlamaForCausalLM or, with norms before the last matrices, a BitNetForCausalLM;
// others are ErrArchitecture. Models of which o.Packed cannot hold what they compute
// are ggml.ErrLossy.
func (w *Weights) WriteHuggingFace(dir string, o HuggingFaceOptions) (Loss, error) {
	arch := Llama
	if w.Model.SubNorm {
		arch = BitNet
	}
	if err := w.checkBlocks(arch); err != nil { // with any head, unlike llama.cpp's
		return Loss{}, err
	}
	c := w.huggingFaceConfig(o.Type)
	h := huggingFaceWriter{
		packed:      o.Packed,
		llamaWriter: llamaWriter{w: w, arch: arch, halves: true, scales: o.Packed, LlamaOptions: LlamaOptions{Arch: arch, Type: o.Type}},
	}
	if err := h.collect(); err != nil {
		return Loss{}, err
	}
	if o.Packed {
		q, err := h.quantization()
		if err != nil {
			return Loss{}, err
		}
		c.Quantization = q
	}
	var v *tokenizer.Vocabulary
	if tok, err := w.Tokenizer(); err == nil {
		if v, err = tok.Vocabulary(); err != nil {
			return Loss{}, err
		}
		v = padded(v, c.VocabSize)
		c.BOS, c.PAD = v.BOS, v.PAD
		if v.EOS >= 0 {
			c.EOS = []int32{v.EOS}
		}
	}
	err := huggingface.Write(dir, c, v, h.entries)
	return h.loss, errors.Wrapf(err, "write %s", dir)
}

// huggingFaceConfig is the config.json of the model with matrices of type t.
func (w *Weights) huggingFaceConfig(t ggml.Type) *huggingface.Config {
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
	c.RopeScaling = ropeScaling(m)
	return c
}

// ropeScaling is how config.json says that rotary frequencies are divided: as linear
// where there is one factor for all. Others have a form there in longrope, whatever
// they came from: it takes any list, and as the original context is all of it, the
// list for short texts and that for long ones are the same.
func ropeScaling(m model.Config) *huggingface.RopeScaling {
	f := m.RoPEFactors
	switch gain := m.RoPEGain != 0 && m.RoPEGain != 1; {
	case f == nil && !gain:
		return nil
	case f == nil:
		f = slices.Repeat([]float64{1}, m.HeadDim()/2)
	case !gain && f[0] >= 1 && !slices.ContainsFunc(f, func(v float64) bool { return v != f[0] }):
		return &huggingface.RopeScaling{Type: "linear", Factor: f[0]}
	}
	return &huggingface.RopeScaling{
		Type: "longrope", Factor: 1, OriginalMaxPositionEmbeddings: m.Context, AttentionFactor: cmp.Or(m.RoPEGain, 1), ShortFactor: f, LongFactor: f,
	}
}

// huggingFaceWriter collects the tensors of a directory.
type huggingFaceWriter struct {
	llamaWriter
	packed  bool
	layers  int      // that are packed
	kept    []string // linear layers that are not, by transformers' names
	entries []safetensors.Entry
}

// collect describes the tensors. Their contents are made when they are written.
func (h *huggingFaceWriter) collect() error {
	nodes, err := states(h.w.Model)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if h.packed {
			done, err := h.pack(n)
			if err != nil {
				return err
			}
			if done {
				continue
			}
		}
		h.out = nil
		if err := h.state(n); err != nil {
			return err
		}
		for _, info := range h.out {
			if err := h.add(info); err != nil {
				return err
			}
		}
	}
	return nil
}

// add describes a tensor of a GGUF file under transformers' name.
func (h *huggingFaceWriter) add(info gguf.TensorInfo) error {
	name, ok := huggingface.TensorName(info.Name)
	if !ok {
		return errors.AssertionFailedf("tensor %q has no name in transformers", info.Name)
	}
	typ, err := h.typeOf(info)
	if err != nil {
		return err
	}
	d, ok := typ.DType()
	if !ok {
		return errors.Wrapf(ggml.ErrType, "%v is no type of safetensors", typ)
	}
	write := info.Data
	if typ != info.Type {
		write = func(out io.Writer) error { return h.convert(out, name, typ, info) }
	}
	h.entries = append(h.entries, safetensors.Entry{Name: name, Type: tensor.Type{DType: d, Shape: info.Shape}, Data: write})
	return nil
}

// typeOf is the type asked for of a matrix, and its own of a norm's gains; but in
// a packed model, which transformers has in one type, that asked for if it holds them.
func (h *huggingFaceWriter) typeOf(info gguf.TensorInfo) (ggml.Type, error) {
	if len(info.Shape) > 1 {
		return h.Type, nil
	}
	if !h.packed {
		return info.Type, nil
	}
	x, err := plain(info)
	if err != nil {
		return 0, err
	}
	if !holds(h.Type, x) {
		return info.Type, nil
	}
	return h.Type, nil
}

// convert writes a tensor in another type.
func (h *huggingFaceWriter) convert(out io.Writer, name string, typ ggml.Type, info gguf.TensorInfo) error {
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
	off, err := distance(typ, data, x.F32())
	if err != nil {
		return err
	}
	if off > h.loss.Error {
		h.loss.Error, h.loss.Tensor = off, info.Name
	}
	_, err = out.Write(data)
	return err
}
