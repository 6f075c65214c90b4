package modelfile

import (
	"cmp"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/huggingface"
	"github.com/ternlm/tern/formats/safetensors"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// PackedType is the narrowest type that WriteHuggingFace with Packed loses nothing
// by: it holds the embedding and all other matrices that are not codes.
func (w *Weights) PackedType() (ggml.Type, error) {
	types := []ggml.Type{ggml.BF16, ggml.F16}
	nodes, err := states(w.Model)
	if err != nil {
		return 0, err
	}
	for _, n := range nodes {
		if _, kind := cutKind(n.Name()); kind != "weight" || len(n.Out[0].Shape) != 2 {
			continue
		}
		t, err := w.Tensor(n.Name())
		if err != nil {
			return 0, err
		}
		types = slices.DeleteFunc(types, func(typ ggml.Type) bool { return !holds(typ, t) })
	}
	return append(types, ggml.F32)[0], nil
}

// holds reports whether a float type, F32, F16 or BF16, has all values of t, F16 or
// F32. It makes no copy: t may be the largest matrix of a model.
func holds(typ ggml.Type, t *tensor.Tensor) bool {
	lost := func(v float32) bool {
		switch typ {
		case ggml.F16:
			return tensor.F16ToF32(tensor.F32ToF16(v)) != v
		case ggml.BF16:
			return math.Float32bits(v)&0xffff != 0
		}
		return false
	}
	if t.DType == tensor.F16 {
		return !slices.ContainsFunc(t.U16(), func(h uint16) bool { return lost(tensor.F16ToF32(h)) })
	}
	return !slices.ContainsFunc(t.F32(), lost)
}

// pack describes the linear layer whose codes or floats are the state n, as
// transformers' AutoBitLinear wants it in offline mode; done is false for other
// states, and for floats, which are a layer that stays as it is.
func (h *huggingFaceWriter) pack(n *graph.Node) (done bool, err error) {
	base, kind := cutKind(n.Name())
	if !isLinear(base) && base != "lm_head" || kind != "codes" && kind != "weight" {
		return false, nil
	}
	file := fileName(base + ".weight")
	name, ok := huggingface.TensorName(file)
	if !ok {
		return false, errors.AssertionFailedf("tensor %q has no name in transformers", file)
	}
	if kind == "weight" {
		if isLinear(base) {
			h.kept = append(h.kept, strings.TrimSuffix(name, ".weight"))
		}
		return false, nil
	}
	if err := h.packs(n, base); err != nil {
		return false, errors.Wrapf(err, "tensor %q", file)
	}
	_, scale, err := h.oneScale(n, base)
	if err != nil {
		return false, errors.Wrapf(err, "tensor %q", file)
	}
	h.layers++
	h.entries = append(h.entries, h.codes(n, base, name), h.scale(name+"_scale", scale))
	return true, nil
}

// packs reports why the weights of a layer could not be packed whatever their
// values are.
func (h *huggingFaceWriter) packs(n *graph.Node, base string) error {
	f, rows := h.w.format(base), n.Out[0].Shape[0]
	switch {
	case base == "lm_head":
		return unpacked("train with --head f16, or "+keepFloats, "the head is quantized, which transformers leaves as it is")
	case !isTernary(f) || n.Out[0].DType != tensor.U2:
		return unpacked("train with --quant ternary:group=tensor, or "+keepFloats, "the weights are codes of %d bits, not ternary ones", f.Bits)
	case f.ActBits != 8:
		return unpacked(keepFloats, "the layer's activations are not rounded to 8 bits, which those of a packed layer are")
	case rows%huggingface.PerByte != 0:
		return unpacked(keepFloats, "%d rows are no multiple of the %d that share a byte", rows, huggingface.PerByte)
	}
	return nil
}

// keepFloats is the end of a hint.
const keepFloats = "leave out --packed: floats hold every model"

// unpacked refuses a model that packed weights cannot hold.
func unpacked(hint, format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ggml.ErrLossy, format, args...), hint)
}

// oneScale returns the weight whose codes are the state n as codes u2 and one
// scale. Groups that all have the same scale, as those of a BitNet model in a GGUF
// file have, lose nothing by it, nor do groups of zeros, whose scale says nothing.
func (h *huggingFaceWriter) oneScale(n *graph.Node, base string) (codes *tensor.Tensor, scale float32, err error) {
	x, err := h.matrix(n, base)
	if err != nil {
		return nil, 0, err
	}
	if s := x.Scales.F32(); !slices.ContainsFunc(s, func(v float32) bool { return v != s[0] }) {
		return x.Codes.Codes, s[0], nil
	}
	w := x.f32() // some group is zeros, or they differ
	for _, v := range w.F32() {
		v = float32(math.Abs(float64(v)))
		switch {
		case v == 0 || v == scale:
		case scale == 0:
			scale = v
		default:
			return nil, 0, unpacked("train with --quant ternary:group=tensor, or "+keepFloats,
				"groups with scales of %v and %v, where packed weights have one for the whole layer", scale, v)
		}
	}
	return nearestLevels(w, cmp.Or(scale, 1)), scale, nil
}

// codes describes the packed codes of a layer.
func (h *huggingFaceWriter) codes(n *graph.Node, base, name string) safetensors.Entry {
	s := n.Out[0].Shape
	e := huggingface.Packed(name, &tensor.Tensor{Type: tensor.T(tensor.I8, s[0]/huggingface.PerByte, s[1])})
	e.Data = func(out io.Writer) error {
		codes, _, err := h.oneScale(n, base)
		if err != nil {
			return err
		}
		packed, err := huggingface.Pack(codes)
		if err != nil {
			return err
		}
		_, err = out.Write(packed.Data)
		return err
	}
	return e
}

// scale describes the scale of a layer, in the type of the matrices where that
// holds it.
func (h *huggingFaceWriter) scale(name string, v float32) safetensors.Entry {
	typ := ggml.F32
	if holds(h.Type, tensor.FromF32([]float32{v}, 1)) {
		typ = h.Type
	}
	d, _ := typ.DType() // both have one
	return safetensors.Entry{Name: name, Type: tensor.T(d, 1), Data: func(out io.Writer) error {
		data := make([]byte, typ.BlockBytes())
		if err := typ.Quantize(data, []float32{v}); err != nil {
			return err
		}
		_, err := out.Write(data)
		return err
	}}
}

// quantization is what config.json says of a model with packed layers.
func (h *huggingFaceWriter) quantization() (*huggingface.Quantization, error) {
	if h.layers == 0 {
		return nil, unpacked("convert the run or the file whose weights are ternary, or "+keepFloats, "no linear layer has ternary weights (quantizer %s)", h.w.Model.Quant)
	}
	q := &huggingface.Quantization{LinearClass: "autobitlinear", Mode: "offline", RMSNormEps: 1e-6} // the default, of norms that there are not
	if len(h.kept) > 0 {
		q.NotConverted = append([]string{"lm_head"}, h.kept...) // a list replaces the default, which is the head
	}
	return q, nil
}
