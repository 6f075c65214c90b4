package modelfile

import (
	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/quant"
	"github.com/ternlm/tern/residual"
)

// llamaConfig is the model that the file holds: the gains of the residual are in
// its weights, and dequantized weights have no quantizer.
func (w *Weights) llamaConfig(t ggml.Type) model.Config {
	c := w.Model.Config
	c.Residual = residual.Standard{}.Spec()
	if !ggml.EncodesTwoBit(t) {
		c.Quant = quant.None{}.Spec()
	}
	return c
}

// llamaMetadata are the keys that llama.cpp reads, and for a model of tern those
// by which tern computes the same from the file as before.
func (w *Weights) llamaMetadata(c model.Config, arch string, t ggml.Type) ([]gguf.KV, error) {
	kv := []gguf.KV{
		{Key: "general.architecture", Value: arch},
		{Key: "general.name", Value: w.Info.Name},
		{Key: "general.quantization_version", Value: uint32(2)},
		{Key: "general.file_type", Value: fileTypes[t]},
	}
	kv = append(kv, w.Info.keys()...)
	kv = append(kv, sizeKeys(arch, c)...)
	if c.RoPEGain != 0 {
		kv = append(kv, gguf.KV{Key: arch + ".rope.scaling.attn_factor", Value: float32(c.RoPEGain)})
	}
	if c.Activation != "" {
		kv = append(kv, gguf.KV{Key: arch + "." + hiddenActivation, Value: c.Activation})
	}
	words, err := w.vocabularyKeys()
	if err != nil {
		return nil, err
	}
	kv = append(kv, words...)
	if w.readsBack(t) {
		kv = append(kv, ownKeys(c)...)
		kv = append(kv, formatKeys(w.Model, c.Quant)...)
	}
	return kv, nil
}

// readsBack reports whether a file of type t is tern's own: it has keys by which
// tern computes from it what it computed before. Types to which weights are rounded
// are read as those of other programs are.
func (w *Weights) readsBack(t ggml.Type) bool {
	return w.own == nil && t != ggml.Q8_0 && t != ggml.BF16
}

// keyFileType repeats general.file_type, which a program that writes the tensors
// in other types changes.
const keyFileType = "tern.file_type"

// fileTypes are llama.cpp's numbers for what most tensors of a file are (enum
// llama_ftype).
var fileTypes = map[ggml.Type]uint32{
	ggml.F32: 0, ggml.F16: 1, ggml.Q8_0: 7, ggml.BF16: 32, ggml.TQ1_0: 36, ggml.TQ2_0: 37, ggml.Q2_0: 41,
}
