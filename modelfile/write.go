package modelfile

import (
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// Architecture is the general.architecture of files that tern writes.
const Architecture = "tern"

// WriteGGUF writes the weights to path, whole or not at all. A ternary weight
// whose scales are f16 values becomes one Q2_0 tensor NAME.weight, one of int8 in
// groups of 32 with such scales one of Q8_0; other quantized weights become the
// tensors NAME.codes (i8, a row's bytes) and NAME.scales. Nothing is lost.
func (w *Weights) WriteGGUF(path string) error {
	if w.own != nil {
		return errors.WithHint(errors.Wrap(ErrArchitecture, "tern is the architecture of models that tern trained"), "choose --arch llama or bitnet")
	}
	tensors, err := w.fileTensors()
	if err != nil {
		return err
	}
	sum, err := sumOf(w.Model.Config, formatKeys(w.Model, w.Model.Quant), tensors)
	if err != nil {
		return err
	}
	meta := append(w.metadata(), gguf.KV{Key: keySum, Value: sum})
	words, err := w.vocabularyKeys() // for other readers: tern goes by the tokenizer's name
	if err != nil {
		return err
	}
	meta = append(meta, words...)
	return gguf.WriteFile(path, meta, tensors)
}

// Bytes returns the size of the tensors in the GGUF file, padding aside.
func (w *Weights) Bytes() (int64, error) {
	tensors, err := w.fileTensors()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, t := range tensors {
		n, err := t.Type.Bytes(t.Shape)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func (w *Weights) fileTensors() ([]gguf.TensorInfo, error) {
	nodes, err := states(w.Model)
	if err != nil {
		return nil, err
	}
	var out []gguf.TensorInfo
	for _, n := range nodes {
		name, t := n.Name(), w.Tensors[n.Name()]
		switch base, isCodes := strings.CutSuffix(name, ".codes"); {
		case isCodes:
			infos, err := quantizedTensors(base, w.format(base), t, w.Tensors[base+".scales"])
			if err != nil {
				return nil, err
			}
			out = append(out, infos...)
		case strings.HasSuffix(name, ".scales") && w.Tensors[strings.TrimSuffix(name, "scales")+"codes"] != nil: // written with its codes
		default:
			info, err := gguf.FromTensor(fileName(name), t)
			if err != nil {
				return nil, err
			}
			out = append(out, info)
		}
	}
	return out, nil
}

// isTernary reports whether the codes of f stand for -1, 0 and 1, as Q2_0's do.
func isTernary(f framework.Format) bool { return slices.Equal(f.Levels, []int8{-1, 0, 1}) }

// quantizedTensors is one tensor, Q2_0 or Q8_0, if that loses nothing, else two.
func quantizedTensors(base string, f framework.Format, codes, scales *tensor.Tensor) ([]gguf.TensorInfo, error) {
	if t, ok := blocksOf(f); ok {
		info, err := gguf.FromCodes(fileName(base+".weight"), t, codes, scales)
		if err == nil {
			return []gguf.TensorInfo{info}, nil
		}
		if !errors.Is(err, ggml.ErrLossy) && !errors.Is(err, ggml.ErrType) {
			return nil, err
		}
	}
	rows := codes.Shape[0]
	raw := gguf.FromBytes(fileName(base+".codes"), ggml.I8, tensor.Shape{rows, len(codes.Data) / rows}, codes.Data)
	s, err := gguf.FromTensor(fileName(base+".scales"), scales)
	return []gguf.TensorInfo{raw, s}, err
}

func (w *Weights) metadata() []gguf.KV {
	c := w.Model.Config
	kv := []gguf.KV{
		{Key: "general.architecture", Value: Architecture},
		{Key: "general.name", Value: w.Info.Name},
		{Key: "general.quantization_version", Value: uint32(2)},
	}
	kv = append(kv, sizeKeys(Architecture, c)...)
	kv = append(kv, ownKeys(c)...)
	kv = append(kv, formatKeys(w.Model, c.Quant)...)
	kv = append(kv, w.Info.keys()...)
	slices.SortStableFunc(kv, func(a, b gguf.KV) int { // general.* first, as readers expect
		return strings.Compare(strings.SplitN(a.Key, ".", 2)[0], strings.SplitN(b.Key, ".", 2)[0])
	})
	return kv
}

// sizeKeys are the sizes of c under the name of an architecture.
func sizeKeys(arch string, c model.Config) []gguf.KV {
	kv := []gguf.KV{
		{Key: arch + ".context_length", Value: uint32(c.Context)},
		{Key: arch + ".embedding_length", Value: uint32(c.Dim)},
		{Key: arch + ".block_count", Value: uint32(c.Layers)},
		{Key: arch + ".feed_forward_length", Value: uint32(c.FFN)},
		{Key: arch + ".attention.head_count", Value: uint32(c.Heads)},
		{Key: arch + ".attention.head_count_kv", Value: uint32(c.KVHeads)},
		{Key: arch + ".attention.layer_norm_rms_epsilon", Value: float32(c.NormEps)},
		{Key: arch + ".rope.dimension_count", Value: uint32(c.HeadDim())},
		{Key: arch + ".rope.freq_base", Value: float32(c.RoPETheta)},
		{Key: arch + ".vocab_size", Value: uint32(c.Vocab)},
	}
	if c.HeadWidth != 0 {
		kv = append(kv, gguf.KV{Key: arch + ".attention.key_length", Value: uint32(c.HeadWidth)},
			gguf.KV{Key: arch + ".attention.value_length", Value: uint32(c.HeadWidth)})
	}
	return kv
}

// ownKeys are what tern has to know besides the sizes.
func ownKeys(c model.Config) []gguf.KV {
	kv := []gguf.KV{
		{Key: "tern.tokenizer", Value: c.Tokenizer},
		{Key: "tern.quantizer", Value: c.Quant},
		{Key: "tern.residual", Value: c.Residual},
		{Key: "tern.head", Value: c.Head},
		{Key: "tern.tied", Value: c.Tied},
		{Key: "tern.sub_norm", Value: c.SubNorm},
	}
	if c.Activation != "" {
		kv = append(kv, gguf.KV{Key: "tern.activation", Value: c.Activation})
	}
	if c.RoPEFactors != nil {
		kv = append(kv, gguf.KV{Key: "tern.rope_factors", Value: c.RoPEFactors})
	}
	if c.RoPEGain != 0 {
		kv = append(kv, gguf.KV{Key: "tern.rope_gain", Value: c.RoPEGain})
	}
	return kv
}

// keys are those of i that are not empty.
func (i Info) keys() (kv []gguf.KV) {
	for _, o := range []struct{ key, value string }{
		{"general.description", i.Description},
		{"general.license", i.License},
		{"tern.created_by", i.CreatedBy},
		{"tern.source", i.Source},
	} {
		if o.value != "" {
			kv = append(kv, gguf.KV{Key: o.key, Value: o.value})
		}
	}
	if i.BitsPerByte > 0 {
		kv = append(kv, gguf.KV{Key: "tern.bits_per_byte", Value: i.BitsPerByte})
	}
	for _, p := range i.Plugins {
		kv = append(kv, p.keys()...)
	}
	return kv
}
