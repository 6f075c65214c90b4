package gguf

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/tensor"
)

// FromCodes describes a tensor to write as t (Q2_0, TQ1_0, TQ2_0 or Q8_0), row by
// row from codes and scales; see ggml.Writer for their shapes and the errors.
func FromCodes(name string, t ggml.Type, codes, scales *tensor.Tensor) (TensorInfo, error) {
	write, err := ggml.Writer(t, codes, scales)
	if err != nil {
		return TensorInfo{}, errors.Wrapf(err, "tensor %q", name)
	}
	return TensorInfo{name, t, codes.Shape, write}, nil
}

// ReadCodes reads a two-dimensional tensor of type Q2_0, TQ1_0 or TQ2_0 as
// ggml.Decode does, or one of type Q8_0, whose group is 32, as ggml.DecodeCodes;
// ErrType if it is none, or of another group, ErrNotFound if there is no such tensor.
func (f *File) ReadCodes(name string, group int) (codes, scales *tensor.Tensor, err error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, nil, err
	}
	bytes := t.Type == ggml.Q8_0 && group == ggml.Q8_0.Block()
	if !bytes && !ggml.EncodesTwoBit(t.Type) || len(t.Shape) != 2 {
		return nil, nil, errors.Wrapf(ErrType, "tensor %q is %v%v, not a Q2_0, TQ1_0 or TQ2_0 matrix, or one of Q8_0 with a group of 32", name, t.Type, t.Shape)
	}
	data, err := f.ReadRaw(name)
	if err != nil {
		return nil, nil, err
	}
	if bytes {
		c, err := ggml.DecodeCodes(t.Type, data, t.Shape[0], t.Shape[1])
		return c.Codes, c.Scales, errors.Wrapf(err, "tensor %q", name)
	}
	codes, scales, err = ggml.Decode(t.Type, data, t.Shape[0], t.Shape[1], group)
	return codes, scales, errors.Wrapf(err, "tensor %q", name)
}
