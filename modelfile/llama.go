package modelfile

import (
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/quant"
	"github.com/ternlm/tern/residual"
	"github.com/ternlm/tern/tokenizer"
)

// Llama is the general.architecture of files that llama.cpp runs as they are.
const Llama = "llama"

// ErrArchitecture is returned for a model that the architecture asked for cannot
// hold.
var ErrArchitecture = errors.New("the architecture cannot hold the model")

// LlamaTypes are the tensor types that WriteLlama takes for the linears.
var LlamaTypes = []ggml.Type{ggml.Q2_0, ggml.TQ2_0, ggml.F16, ggml.F32}

// WriteLlama writes the weights to path as a file of architecture llama, whole
// or not at all, with the linears in type t (one of LlamaTypes) and the
// vocabulary. The residual must be standard or scaled, whose gains go into
// attn_output and ffn_down; folded is the largest relative change that the
// rounding of this makes to a weight, 0 where nothing is folded. F32 holds every
// weight, F16 rounds to the nearest, which leaves ternary weights with f16 scales
// as they are; Q2_0 and TQ2_0 round nothing but a folded gain: weights that they
// cannot hold are ggml.ErrLossy. Other models are ErrArchitecture, weights beyond
// the range of t ErrModel.
//
// llama.cpp multiplies by activations of its own rounding (per block, not per
// token), so its logits are near tern's, not equal to them.
func (w *Weights) WriteLlama(path string, t ggml.Type) (folded float64, err error) {
	if err := w.checkLlama(); err != nil {
		return 0, err
	}
	l := llamaWriter{w: w, typ: t}
	nodes, err := states(w.Model)
	if err != nil {
		return 0, err
	}
	for _, n := range nodes {
		if err := l.state(n); err != nil {
			return 0, err
		}
	}
	c := w.llamaConfig(t)
	meta, err := w.llamaMetadata(c, t)
	if err != nil {
		return 0, err
	}
	sum, err := sumOf(c, l.out)
	if err != nil {
		return 0, err
	}
	meta = append(meta, gguf.KV{Key: keySum, Value: sum})
	return l.folded, errors.Wrapf(gguf.WriteFile(path, meta, l.out), "write %s", path)
}

// checkLlama reports why the architecture cannot hold the model.
func (w *Weights) checkLlama() error {
	bad := func(format string, args ...any) error {
		return errors.WithHint(errors.Wrapf(ErrArchitecture, format, args...),
			"export it with --arch tern, or train with --residual standard and --sub-norm=false")
	}
	switch w.Model.Residual().(type) {
	case residual.Standard, residual.Scaled:
	default:
		return bad("llama has no residual %s", w.Model.Config.Residual)
	}
	if w.Model.SubNorm {
		return bad("llama has no norms before the last matrix of a sub-layer")
	}
	return nil
}

// llamaWriter collects the tensors of a file.
type llamaWriter struct {
	w      *Weights
	typ    ggml.Type
	out    []gguf.TensorInfo
	folded float64
}

func (l *llamaWriter) state(n *graph.Node) error {
	name := n.Name()
	at := strings.LastIndexByte(name, '.')
	base, t := name[:at], l.w.Tensors[name]
	switch kind := name[at+1:]; {
	case strings.HasSuffix(base, ".scaled"): // folded
		return nil
	case kind == "scales" && l.w.Tensors[base+".codes"] != nil: // written with its codes
		return nil
	case kind == "codes":
		return l.codes(base, t, l.w.Tensors[base+".scales"])
	case t.DType == tensor.F32 && len(t.Shape) == 2:
		return l.floats(fileName(name), l.fold(base, t))
	}
	info, err := gguf.FromTensor(fileName(name), t)
	l.out = append(l.out, info)
	return err
}

// codes writes a quantized weight.
func (l *llamaWriter) codes(base string, codes, scales *tensor.Tensor) error {
	name := fileName(base + ".weight")
	scales = l.fold(base, scales)
	f := l.w.Model.Quantizer().Format()
	if ggml.EncodesTwoBit(l.typ) {
		if !slices.Equal(f.Levels, ternaryLevels) {
			return l.notTernary(name)
		}
		info, err := gguf.FromCodes(name, l.typ, codes, scales)
		l.out = append(l.out, info)
		return errors.Wrapf(err, "as %v", l.typ)
	}
	m, k := codes.Shape[0], codes.Shape[1]
	x := tensor.New(tensor.T(tensor.F32, m, k))
	dequantize(x.F32(), codes, scales, f.Levels)
	return l.floats(name, x)
}

// ternaryLevels are what the codes of the two-bit types stand for.
var ternaryLevels = []int8{-1, 0, 1}

func (l *llamaWriter) notTernary(name string) error {
	return errors.WithHint(errors.Wrapf(ggml.ErrLossy, "tensor %q of quantizer %s is not ternary, %v holds no other", name, l.w.Model.Quant, l.typ),
		"choose --type f16 or f32")
}

// floats writes a weight f32 [M,K] in the type asked for.
func (l *llamaWriter) floats(name string, x *tensor.Tensor) error {
	switch l.typ {
	case ggml.F32:
	case ggml.F16:
		x = toF16(x)
	default:
		return l.notTernary(name)
	}
	if err := checkFinite(name, x); err != nil {
		return errors.WithHintf(errors.Wrapf(err, "as %v", l.typ), "a weight is beyond the range of %v: choose --type f32", l.typ)
	}
	info, err := gguf.FromTensor(name, x)
	l.out = append(l.out, info)
	return err
}

// fold multiplies scales, or a weight, by the gain of the sub-layer that the
// weight ends. Scales stay f16 values.
func (l *llamaWriter) fold(base string, t *tensor.Tensor) *tensor.Tensor {
	sub, last := strings.CutSuffix(base, ".wo")
	if !last {
		sub, last = strings.CutSuffix(base, ".down")
	}
	gain := l.w.Tensors[sub+".scaled.gain"]
	if !last || gain == nil {
		return t
	}
	g := gain.F32()[0]
	out := tensor.New(t.Type)
	for i, v := range t.F32() {
		want := float64(v) * float64(g)
		got := tensor.F16ToF32(tensor.F32ToF16(float32(want)))
		if l.typ == ggml.F32 {
			got = float32(want)
		}
		out.F32()[i] = got
		if want != 0 {
			l.folded = max(l.folded, math.Abs(float64(got)/want-1))
		}
	}
	return out
}

// dequantize sets x [M,K] to level times scale.
func dequantize(x []float32, codes, scales *tensor.Tensor, levels []int8) {
	m, k := codes.Shape[0], codes.Shape[1]
	s, cols := scales.F32(), scales.Shape[1]
	bits := 8 / codes.DType.Block()
	rowBytes := len(codes.Data) / m
	for r := range m {
		row := codes.Data[r*rowBytes:]
		for c := range k {
			var level int8
			if bits == 8 {
				level = int8(row[c])
			} else if code := int(row[c*bits/8]>>(c*bits%8)) & (1<<bits - 1); code < len(levels) {
				level = levels[code]
			}
			at := c * cols / k
			if scales.Shape[0] == m {
				at += r * cols
			}
			x[r*k+c] = float32(level) * s[at]
		}
	}
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

// llamaMetadata are the keys that llama.cpp reads, and those by which tern
// computes the same from the file as before.
func (w *Weights) llamaMetadata(c model.Config, t ggml.Type) ([]gguf.KV, error) {
	tok, err := tokenizer.Open(c.Tokenizer)
	if err != nil {
		return nil, err
	}
	v, err := tok.Vocabulary()
	if err != nil {
		return nil, err
	}
	kv := []gguf.KV{
		{Key: "general.architecture", Value: Llama},
		{Key: "general.name", Value: w.Info.Name},
		{Key: "general.quantization_version", Value: uint32(2)},
		{Key: "general.file_type", Value: fileTypes[t]},
	}
	kv = append(kv, w.Info.keys()...)
	kv = append(kv, sizeKeys(Llama, c)...)
	kv = append(kv, vocabularyKeys(v)...)
	return append(kv, ownKeys(c)...), nil
}

// fileTypes are llama.cpp's numbers for what most tensors of a file are (enum
// llama_ftype).
var fileTypes = map[ggml.Type]uint32{ggml.F32: 0, ggml.F16: 1, ggml.TQ2_0: 37, ggml.Q2_0: 41}

// vocabularyKeys are a vocabulary as ggml's gguf.md describes it.
func vocabularyKeys(v *tokenizer.Vocabulary) []gguf.KV {
	return []gguf.KV{
		{Key: "tokenizer.ggml.model", Value: v.Model},
		{Key: "tokenizer.ggml.pre", Value: v.Pre},
		{Key: "tokenizer.ggml.tokens", Value: v.Tokens},
		{Key: "tokenizer.ggml.token_type", Value: v.Types},
		{Key: "tokenizer.ggml.merges", Value: v.Merges},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(v.BOS)},
		{Key: "tokenizer.ggml.eos_token_id", Value: uint32(v.EOS)},
		{Key: "tokenizer.ggml.add_bos_token", Value: v.AddBOS},
	}
}
