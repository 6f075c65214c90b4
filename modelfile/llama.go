package modelfile

import (
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/layers"
	"github.com/ternlm/tern/residual"
)

// Llama and BitNet are the general.architecture of files that llama.cpp runs as
// they are: BitNet has a norm before the last matrix of each sub-layer.
const (
	Llama  = "llama"
	BitNet = "bitnet"
)

// ErrArchitecture is returned for a model that the architecture asked for cannot
// hold.
var ErrArchitecture = errors.New("the architecture cannot hold the model")

// LlamaTypes are the tensor types that WriteLlama takes for the linears.
var LlamaTypes = []ggml.Type{ggml.Q2_0, ggml.TQ2_0, ggml.TQ1_0, ggml.Q8_0, ggml.F16, ggml.BF16, ggml.F32}

// LlamaOptions say how WriteLlama writes.
type LlamaOptions struct {
	Arch  string    // Llama, which "" stands for, or BitNet
	Type  ggml.Type // of the linears, one of LlamaTypes
	Lossy bool      // round weights that a ternary type cannot hold to the nearest that it can
}

// Loss says what the writing of a file changed.
type Loss struct {
	// Folded is the largest relative change that the rounding of the residual's
	// gains into weights makes to a weight; 0 where nothing is folded.
	Folded float64 `json:"folded"`
	// Error is the largest relative error of a tensor, the norm of what rounding
	// changes by the norm of the weights; Tensor has it.
	Error  float64 `json:"error"`
	Tensor string  `json:"tensor,omitempty"`
}

// WriteLlama writes the weights to path as a file that llama.cpp runs, whole or
// not at all, with the linears in type o.Type and the vocabulary. The residual
// must be standard or scaled, whose gains go into attn_output and ffn_down. F32
// holds every weight; F16, BF16 and Q8_0 round to the nearest, which leaves ternary
// weights with f16 scales as they are in F16; Q2_0, TQ2_0 and TQ1_0 round nothing
// but a folded gain: weights that they cannot hold are ggml.ErrLossy unless o.Lossy
// is set. A head of int8 is Q8_0 whatever o.Type is, which loses nothing. Other models are ErrArchitecture, weights beyond the range of a type
// ggml.ErrLossy.
//
// llama.cpp multiplies by activations of its own rounding (per block, not per
// token), so its logits are near tern's, not equal to them.
func (w *Weights) WriteLlama(path string, o LlamaOptions) (Loss, error) {
	if o.Arch == "" {
		o.Arch = Llama
	}
	if err := w.CheckLlama(o.Arch); err != nil {
		return Loss{}, err
	}
	l := llamaWriter{w: w, LlamaOptions: o, arch: o.Arch, halves: foreign[o.Arch].halves}
	if o.Arch == BitNet && w.Model.Activation == string(layers.ReLU2) {
		l.arch = bitnetB158
	}
	if err := errors.CombineErrors(l.collect(), l.ropeFactors()); err != nil {
		return Loss{}, err
	}
	c := w.llamaConfig(o.Type)
	meta, err := w.llamaMetadata(c, l.arch, o.Type)
	if err != nil {
		return Loss{}, err
	}
	if w.readsBack(o.Type) {
		sum, err := sumOf(c, formatKeys(w.Model, c.Quant), l.out)
		if err != nil {
			return Loss{}, err
		}
		meta = append(meta, gguf.KV{Key: keyFileType, Value: fileTypes[o.Type]}, gguf.KV{Key: keySum, Value: sum})
	}
	err = gguf.WriteFile(path, meta, l.out)
	return l.loss, err // which names the path
}

// CheckLlama reports why an architecture, Llama or BitNet, cannot hold the model.
func (w *Weights) CheckLlama(arch string) error {
	if err := w.checkBlocks(arch); err != nil {
		return err
	}
	if arch == BitNet && !w.Model.Tied {
		return errors.WithHint(errors.Wrap(ErrArchitecture, "bitnet has the embedding for its head, the model another"),
			"export it with --arch tern or --format huggingface, or train with --tied")
	}
	return nil
}

// unfit refuses a model that an architecture cannot hold.
func unfit(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrArchitecture, format, args...),
		"export it with --arch tern, or train with --residual standard and, for llama, --sub-norm=false")
}

// checkBlocks reports why the blocks of an architecture cannot be the model's.
func (w *Weights) checkBlocks(arch string) error {
	c := w.Model.Config
	switch w.Model.Residual().(type) {
	case residual.Standard, residual.Scaled:
	default:
		return unfit("%s has no residual %s", arch, c.Residual)
	}
	silu := c.Activation == "" || c.Activation == string(layers.SiLU)
	switch {
	case arch == Llama && c.SubNorm:
		return unfit("llama has no norms before the last matrix of a sub-layer")
	case arch == Llama && !silu:
		return unfit("llama has no activation %s", c.Activation)
	case arch == BitNet && !c.SubNorm:
		return unfit("bitnet has norms before the last matrix of a sub-layer, the model has none")
	}
	return nil
}

// DefaultArch is the architecture that a model is written as where none is asked
// for: Llama where it fits, BitNet for models of other programs, Architecture.
func (w *Weights) DefaultArch() string {
	switch {
	case w.CheckLlama(Llama) == nil:
		return Llama
	case w.own != nil && w.CheckLlama(BitNet) == nil:
		return BitNet
	}
	return Architecture
}

// DefaultType is the type that linears are written as where none is asked for: Q2_0
// if it holds all of them, else F16.
func (w *Weights) DefaultType() ggml.Type {
	nodes, err := states(w.Model)
	if err != nil {
		return ggml.F16
	}
	for _, n := range nodes {
		base, kind := cutKind(n.Name())
		if !isLinear(base) || kind != "codes" && kind != "weight" {
			continue
		}
		if t, ok := oneTensor(w.format(base), n); kind != "codes" || !ok || t != ggml.Q2_0 {
			return ggml.F16
		}
	}
	return ggml.Q2_0
}

// format is that of the weight of a linear layer, or of a quantized head.
func (w *Weights) format(base string) framework.Format {
	if s, ok := w.Model.Stored(base); ok {
		return s.Format
	}
	return w.Model.QuantizerOf(base).Format()
}

// Arches are the architectures that tern export writes.
var Arches = slices.Sorted(slices.Values([]string{Architecture, Llama, BitNet}))
