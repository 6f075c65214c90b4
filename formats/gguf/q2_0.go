package gguf

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/tensor"
)

// FromCodes describes a tensor to write as Q2_0, row by row from codes and
// scales; see ggml.EncodeQ2_0 for their shapes and the errors.
func FromCodes(name string, codes, scales *tensor.Tensor) (TensorInfo, error) {
	write, err := ggml.WriterQ2_0(codes, scales)
	if err != nil {
		return TensorInfo{}, errors.Wrapf(err, "tensor %q", name)
	}
	return TensorInfo{name, ggml.Q2_0, codes.Shape, write}, nil
}

// ReadQ2_0 reads a two-dimensional Q2_0 tensor as ggml.DecodeQ2_0 does; ErrType if
// it is none, ErrNotFound if there is no such tensor.
func (f *File) ReadQ2_0(name string, group int) (codes, scales *tensor.Tensor, err error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, nil, err
	}
	if t.Type != ggml.Q2_0 || len(t.Shape) != 2 {
		return nil, nil, errors.Wrapf(ErrType, "tensor %q is %v%v, not a Q2_0 matrix", name, t.Type, t.Shape)
	}
	data, err := f.ReadRaw(name)
	if err != nil {
		return nil, nil, err
	}
	codes, scales, err = ggml.DecodeQ2_0(data, t.Shape[0], t.Shape[1], group)
	return codes, scales, errors.Wrapf(err, "tensor %q", name)
}
