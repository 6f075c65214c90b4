package modelfile

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/layers"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/quant"
	"github.com/ternlm/tern/residual"
	"github.com/ternlm/tern/tokenizer"
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
// is set. Other models are ErrArchitecture, weights beyond the range of a type
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
		sum, err := sumOf(c, l.out)
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
	c := w.Model.Config
	bad := func(format string, args ...any) error {
		return errors.WithHint(errors.Wrapf(ErrArchitecture, format, args...),
			"export it with --arch tern, or train with --residual standard and, for llama, --sub-norm=false")
	}
	switch w.Model.Residual().(type) {
	case residual.Standard, residual.Scaled:
	default:
		return bad("%s has no residual %s", arch, c.Residual)
	}
	silu := c.Activation == "" || c.Activation == string(layers.SiLU)
	switch {
	case arch == Llama && c.SubNorm:
		return bad("llama has no norms before the last matrix of a sub-layer")
	case arch == Llama && !silu:
		return bad("llama has no activation %s", c.Activation)
	case arch == BitNet && !c.SubNorm:
		return bad("bitnet has norms before the last matrix of a sub-layer, the model has none")
	case arch == BitNet && !c.Tied:
		return bad("bitnet has the embedding for its head, the model another")
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
		f := w.Model.Quantizer().Format()
		if s, ok := w.Model.Stored(base); ok {
			f = s.Format
		}
		if kind != "codes" || !slices.Equal(f.Levels, ternaryLevels) || !oneTensor(f, n) {
			return ggml.F16
		}
	}
	return ggml.Q2_0
}

// llamaWriter collects the tensors of a file.
type llamaWriter struct {
	LlamaOptions
	arch   string
	halves bool // rotary pairs are element i and i + D/2 of a head
	w      *Weights
	out    []gguf.TensorInfo
	loss   Loss
}

// collect describes the tensors. Their contents are made when they are written.
func (l *llamaWriter) collect() error {
	nodes, err := states(l.w.Model)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := l.state(n); err != nil {
			return err
		}
	}
	return nil
}

// ropeFactors describes the divisors of rotary frequencies, if there are any.
func (l *llamaWriter) ropeFactors() error {
	f := l.w.Model.RoPEFactors
	if f == nil {
		return nil
	}
	t := tensor.New(tensor.T(tensor.F32, len(f)))
	for i, v := range f {
		t.F32()[i] = float32(v)
	}
	info, err := gguf.FromTensor(ropeFreqs, t)
	l.out = append(l.out, info)
	return err
}

func (l *llamaWriter) state(n *graph.Node) error {
	base, kind := cutKind(n.Name())
	if strings.HasSuffix(base, ".scaled") || kind == "scales" || kind == "mins" {
		return nil // folded, or written with the codes
	}
	if kind == "codes" || isLinear(base) || base == "lm_head" && n.Out[0].DType == tensor.F32 {
		if k := n.Out[0].Shape[1]; k%l.Type.Block() != 0 {
			return errors.WithHint(errors.Wrapf(ggml.ErrLossy, "tensor %q: rows of %d are no multiple of the %d of %v", fileName(base+".weight"), k, l.Type.Block(), l.Type),
				"choose --type f16 or f32, or q2_0 where rows are a multiple of 64")
		}
		l.out = append(l.out, l.linear(n, base))
		return nil
	}
	t, err := l.w.Tensor(n.Name())
	if err != nil {
		return err
	}
	info, err := gguf.FromTensor(fileName(n.Name()), t)
	l.out = append(l.out, info)
	return err
}

// linear describes the weight of a linear layer in the type asked for.
func (l *llamaWriter) linear(n *graph.Node, base string) gguf.TensorInfo {
	name := fileName(base + ".weight")
	return gguf.TensorInfo{Name: name, Type: l.Type, Shape: n.Out[0].Shape, Data: func(out io.Writer) error {
		x, err := l.w.matrix(n)
		if err != nil {
			return err
		}
		x = l.fold(base, x)
		if l.halves && isRotated(base) {
			x = x.reorder(func(t *tensor.Tensor) *tensor.Tensor { return halveRows(t, l.w.Model.HeadDim()) })
		}
		return errors.Wrapf(l.write(out, name, x), "as %v", l.Type)
	}}
}

// write writes the bytes of a weight.
func (l *llamaWriter) write(out io.Writer, name string, x matrix) error {
	if ggml.EncodesTwoBit(l.Type) && x.ternary() {
		codes, err := ggml.Writer(l.Type, x.Codes.Codes, x.Scales)
		if err == nil {
			return codes(out)
		}
		if !l.Lossy || !errors.Is(err, ggml.ErrLossy) {
			return err
		}
	}
	f := x.f32().F32()
	size, err := l.Type.Bytes(x.shape())
	if err != nil {
		return err
	}
	data := make([]byte, size)
	if err := l.Type.Quantize(data, f); err != nil {
		return err
	}
	off, err := distance(l.Type, data, f)
	switch {
	case err != nil:
		return err
	case off > 0 && ggml.EncodesTwoBit(l.Type) && !l.Lossy:
		return l.notTernary()
	case off > l.loss.Error:
		l.loss.Error, l.loss.Tensor = off, name
	}
	_, err = out.Write(data)
	return err
}

// distance is the norm of what is different in data by the norm of want.
func distance(t ggml.Type, data []byte, want []float32) (float64, error) {
	got := make([]float32, len(want))
	if err := t.Dequantize(got, data); err != nil {
		return 0, err
	}
	var off, norm float64
	for i, v := range want {
		d := float64(got[i]) - float64(v)
		off, norm = off+d*d, norm+float64(v)*float64(v)
	}
	return math.Sqrt(off / max(norm, math.SmallestNonzeroFloat64)), nil
}

// notTernary refuses weights that a ternary type does not hold.
func (l *llamaWriter) notTernary() error {
	return errors.WithHint(errors.Wrapf(ggml.ErrLossy, "its weights are not ternary (quantizer %s)", l.w.Model.Quant),
		"choose --type f16 or f32, or --allow-lossy, which rounds them to ternary ones")
}

// fold multiplies scales, or a weight, by the gain of the sub-layer that the
// weight ends. Scales stay f16 values.
func (l *llamaWriter) fold(base string, x matrix) matrix {
	sub, last := strings.CutSuffix(base, ".wo")
	if !last {
		sub, last = strings.CutSuffix(base, ".down")
	}
	gain := l.w.Tensors[sub+".scaled.gain"]
	if !last || gain == nil {
		return x
	}
	g := gain.F32()[0]
	return x.mapScales(func(v float32) float32 {
		want := float64(v) * float64(g)
		got := float32(want)
		if l.Type != ggml.F32 {
			got = tensor.F16ToF32(tensor.F32ToF16(got))
		}
		if want != 0 {
			l.loss.Folded = max(l.loss.Folded, math.Abs(float64(got)/want-1))
		}
		return got
	})
}

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
	words, err := w.vocabularyKeys()
	if err != nil {
		return nil, err
	}
	kv = append(kv, words...)
	if w.readsBack(t) {
		kv = append(kv, ownKeys(c)...)
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

// vocabularyKeys are the vocabulary as ggml's gguf.md describes it; none for a
// model without one.
func (w *Weights) vocabularyKeys() ([]gguf.KV, error) {
	tok, err := w.Tokenizer()
	if err != nil {
		return nil, err
	}
	v, err := tok.Vocabulary()
	if err != nil {
		return nil, err
	}
	return keysOf(padded(v, w.Model.Vocab)), nil
}

// padded returns v with as many tokens as the embedding has rows: readers of
// files want the two to be equal.
func padded(v *tokenizer.Vocabulary, rows int) *tokenizer.Vocabulary {
	p := *v
	p.Tokens, p.Types, p.Scores = slices.Clone(v.Tokens), slices.Clone(v.Types), slices.Clone(v.Scores)
	for id := len(p.Tokens); id < rows; id++ {
		p.Tokens = append(p.Tokens, fmt.Sprintf("[PAD%d]", id))
		if p.Types != nil {
			p.Types = append(p.Types, tokenizer.TokenUnused)
		}
		if p.Scores != nil {
			p.Scores = append(p.Scores, 0)
		}
	}
	return &p
}

func keysOf(v *tokenizer.Vocabulary) []gguf.KV {
	kv := []gguf.KV{
		{Key: ggmlTokenizer + "model", Value: v.Model},
		{Key: ggmlTokenizer + "pre", Value: v.Pre},
		{Key: ggmlTokenizer + "tokens", Value: v.Tokens},
	}
	if v.Types != nil {
		kv = append(kv, gguf.KV{Key: ggmlTokenizer + "token_type", Value: v.Types})
	}
	if v.Scores != nil {
		kv = append(kv, gguf.KV{Key: ggmlTokenizer + "scores", Value: v.Scores})
	}
	if v.Merges != nil {
		kv = append(kv, gguf.KV{Key: ggmlTokenizer + "merges", Value: v.Merges})
	}
	for _, s := range []struct {
		name string
		id   int32
	}{{"bos", v.BOS}, {"eos", v.EOS}, {"unknown", v.UNK}, {"padding", v.PAD}} {
		if s.id >= 0 {
			kv = append(kv, gguf.KV{Key: ggmlTokenizer + s.name + "_token_id", Value: uint32(s.id)})
		}
	}
	kv = append(kv, gguf.KV{Key: ggmlTokenizer + "add_bos_token", Value: v.AddBOS})
	if v.AddEOS {
		kv = append(kv, gguf.KV{Key: ggmlTokenizer + "add_eos_token", Value: true})
	}
	if v.Model != "gpt2" {
		kv = append(kv, gguf.KV{Key: ggmlTokenizer + "add_space_prefix", Value: v.AddSpacePrefix})
	}
	return kv
}

// halveRows is the inverse of pairRows.
func halveRows(t *tensor.Tensor, d int) *tensor.Tensor {
	return permuteRows(t, func(r int) int {
		if i := r % d; i < d/2 {
			return r/d*d + 2*i
		} else {
			return r/d*d + 2*(i-d/2) + 1
		}
	})
}

// Arches are the architectures that tern export writes.
var Arches = slices.Sorted(slices.Values([]string{Architecture, Llama, BitNet}))
