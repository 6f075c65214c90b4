package modelfile

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/tensor"
)

// lazyWeight returns what reads the weight of a base name, one of whose states
// has the type want.
func (f *foreignModel) lazyWeight(base string, want tensor.Type) (*lazyWeight, error) {
	w, err := f.weight(base)
	if err != nil {
		return nil, err
	}
	name := fileName(base + ".weight")
	order := func(t *tensor.Tensor) *tensor.Tensor { return t }
	if f.halves && isRotated(base) {
		order = func(t *tensor.Tensor) *tensor.Tensor { return pairRows(t, f.config.HeadDim()) }
	}
	factor, err := f.factor(base)
	if err != nil {
		return nil, err
	}
	if w.stored(isLinear(base)).Format.Quantized() {
		return &lazyWeight{read: func(dst []byte) (parts, error) {
			c, err := w.readCodes(dst)
			if err != nil {
				return nil, errors.Wrapf(err, "tensor %q", name)
			}
			if factor != 1 {
				c = scaled(c, factor)
			}
			p := parts{"codes": order(c.Codes), "scales": order(c.Scales)}
			if c.Mins != nil {
				p["mins"] = order(c.Mins)
			}
			return p, checkCodes(name, c)
		}}, nil
	}
	if factor != 1 {
		return nil, foreignError("tensor %q has a scale, but no codes", name)
	}
	return &lazyWeight{read: func(dst []byte) (parts, error) {
		t, err := w.readFloats(dst)
		if err != nil {
			return nil, errors.Wrapf(err, "tensor %q", name)
		}
		if want.DType == tensor.F32 && t.DType == tensor.F16 {
			t = toF32(t)
		}
		t.Shape = want.Shape
		return parts{"weight": order(t)}, checkFinite(name, t)
	}}, nil
}

// checkCodes refuses scales and minima that are no numbers.
func checkCodes(name string, c ggml.Codes) error {
	err := checkFinite(name, c.Scales)
	if c.Mins != nil {
		err = errors.CombineErrors(err, checkFinite(name, c.Mins))
	}
	return err
}

// factor is what llama.cpp multiplies a BitNet layer's output by: the tensor
// NAME.scale, where there is one.
func (f *foreignModel) factor(base string) (float32, error) {
	name := fileName(base + ".scale")
	w := f.weights[name]
	if w == nil || !isLinear(base) {
		return 1, nil
	}
	f.used[name] = true
	if w.shape.Numel() != 1 || w.float != tensor.F32 {
		return 0, foreignError("tensor %q is %v, wants one f32 value", name, w.shape)
	}
	t, err := w.readFloats(nil)
	if err != nil {
		return 0, err
	}
	return t.F32()[0], checkFinite(name, t)
}

// toF32 widens f16 values.
func toF32(t *tensor.Tensor) *tensor.Tensor {
	wide := tensor.New(tensor.Type{DType: tensor.F32, Shape: t.Shape})
	for i, h := range t.U16() {
		wide.F32()[i] = tensor.F16ToF32(h)
	}
	return wide
}
