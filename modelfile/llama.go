package modelfile

import (
	"math"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/residual"
	"github.com/ternlm/tern/tokenizer"
)

// Llama is the general.architecture of files that llama.cpp runs as they are.
const Llama = "llama"

// LlamaTypes are the tensor types that WriteLlama takes for the linears.
var LlamaTypes = []ggml.Type{ggml.Q2_0, ggml.TQ2_0, ggml.F16, ggml.F32}

// WriteLlama writes the weights to path as a file of architecture llama, whole
// or not at all, with the linears in type t (one of LlamaTypes) and the
// vocabulary. The residual must be standard or scaled, whose gains go into
// attn_output and ffn_down; folded is the largest relative change that the
// rounding of this makes to a weight, 0 where nothing is folded. Other models
// are ErrModel; weights that t cannot hold as they are ggml.ErrLossy.
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
	meta, err := w.llamaMetadata(t)
	if err != nil {
		return 0, err
	}
	return l.folded, errors.Wrapf(gguf.WriteFile(path, meta, l.out), "write %s", path)
}

// checkLlama reports why the architecture cannot hold the model.
func (w *Weights) checkLlama() error {
	bad := func(format string, args ...any) error {
		return errors.WithHint(errors.Wrapf(ErrModel, format, args...),
			"export it with --arch tern, or train with --residual standard and --sub-norm=false")
	}
	switch w.Model.Residual().(type) {
	case residual.Standard, residual.Scaled:
	default:
		return bad("architecture llama has no residual %s", w.Model.Config.Residual)
	}
	if w.Model.SubNorm {
		return bad("architecture llama has no norms before the last matrix of a sub-layer")
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
	if ggml.EncodesTwoBit(l.typ) {
		info, err := gguf.FromCodes(name, l.typ, codes, scales)
		l.out = append(l.out, info)
		return errors.Wrapf(err, "as %v", l.typ)
	}
	f := l.w.Model.Quantizer().Format()
	m, k := codes.Shape[0], codes.Shape[1]
	x := tensor.New(tensor.T(tensor.F32, m, k))
	dequantize(x.F32(), codes, scales, f.Levels)
	return l.floats(name, x)
}

// floats writes a weight f32 [M,K] in the type asked for.
func (l *llamaWriter) floats(name string, x *tensor.Tensor) error {
	switch l.typ {
	case ggml.F32:
	case ggml.F16:
		x = toF16(x)
	default:
		return errors.WithHint(errors.Wrapf(ggml.ErrLossy, "tensor %q is %v, no ternary weight", name, x.Type), "choose --type f16 or f32")
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

// llamaMetadata are the keys that llama.cpp reads, and those by which tern
// computes the same from the file as before.
func (w *Weights) llamaMetadata(t ggml.Type) ([]gguf.KV, error) {
	c := w.Model.Config
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
	spec := c.Residual
	if _, ok := w.Model.Residual().(residual.Scaled); ok {
		spec = residual.Standard{}.Spec() // its gains are in the weights
	}
	quant := c.Quant
	if !ggml.EncodesTwoBit(t) && w.Model.Quantizer().Format().Quantized() {
		quant = "none"
	}
	return append(kv, ownKeys(quant, spec, c)...), nil
}

// fileTypes are llama.cpp's numbers for what most tensors of a file are (enum
// llama_ftype).
var fileTypes = map[ggml.Type]uint32{ggml.F32: 0, ggml.F16: 1, ggml.TQ2_0: 37, ggml.Q2_0: 41}

// vocabularyKeys are a vocabulary as ggml's gguf.md describes it.
func vocabularyKeys(v *tokenizer.Vocabulary) []gguf.KV {
	kv := []gguf.KV{
		{Key: "tokenizer.ggml.model", Value: v.Model},
		{Key: "tokenizer.ggml.pre", Value: v.Pre},
		{Key: "tokenizer.ggml.tokens", Value: v.Tokens},
		{Key: "tokenizer.ggml.token_type", Value: v.Types},
	}
	return append(kv,
		gguf.KV{Key: "tokenizer.ggml.merges", Value: v.Merges},
		gguf.KV{Key: "tokenizer.ggml.bos_token_id", Value: uint32(v.BOS)},
		gguf.KV{Key: "tokenizer.ggml.eos_token_id", Value: uint32(v.EOS)},
		gguf.KV{Key: "tokenizer.ggml.add_bos_token", Value: v.AddBOS})
}
