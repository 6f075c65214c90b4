package gguf

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/tensor"
)

// FromCodes describes a tensor to write as t (Q2_0, TQ1_0 or TQ2_0), row by row
// from codes and scales; see ggml.Encode for their shapes and the errors.
func FromCodes(name string, t ggml.Type, codes, scales *tensor.Tensor) (TensorInfo, error) {
	write, err := ggml.Writer(t, codes, scales)
	if err != nil {
		return TensorInfo{}, errors.Wrapf(err, "tensor %q", name)
	}
	return TensorInfo{name, t, codes.Shape, write}, nil
}

// ReadCodes reads a two-dimensional tensor of type Q2_0, TQ1_0 or TQ2_0 as
// ggml.Decode does; ErrType if it is none, ErrNotFound if there is no such tensor.
func (f *File) ReadCodes(name string, group int) (codes, scales *tensor.Tensor, err error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, nil, err
	}
	if !ggml.EncodesTwoBit(t.Type) || len(t.Shape) != 2 {
		return nil, nil, errors.Wrapf(ErrType, "tensor %q is %v%v, not a Q2_0, TQ1_0 or TQ2_0 matrix", name, t.Type, t.Shape)
	}
	data, err := f.ReadRaw(name)
	if err != nil {
		return nil, nil, err
	}
	codes, scales, err = ggml.Decode(t.Type, data, t.Shape[0], t.Shape[1], group)
	return codes, scales, errors.Wrapf(err, "tensor %q", name)
}
