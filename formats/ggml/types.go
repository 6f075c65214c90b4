package ggml

import (
	"fmt"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// Type is a ggml tensor encoding, by its number in the file.
type Type uint32

// The tensor encodings that this package names. Others that ggml defines are
// known by block and size, so files that hold them can be listed and their
// bytes read.
const (
	F32   Type = 0
	F16   Type = 1
	Q4_0  Type = 2  // 32 4-bit weights and an f16 scale: 18 bytes
	Q4_1  Type = 3  // 32 4-bit weights, f16 scale and minimum: 20 bytes
	Q5_0  Type = 6  // 32 5-bit weights and an f16 scale: 22 bytes
	Q5_1  Type = 7  // 32 5-bit weights, f16 scale and minimum: 24 bytes
	Q8_0  Type = 8  // 32 8-bit weights and an f16 scale: 34 bytes
	Q4_K  Type = 12 // 256 4-bit weights in eights of 6-bit scales and minima: 144 bytes
	Q5_K  Type = 13 // 256 5-bit weights in eights of 6-bit scales and minima: 176 bytes
	Q6_K  Type = 14 // 256 6-bit weights in sixteenths of 8-bit scales: 210 bytes
	I8    Type = 24
	I16   Type = 25
	I32   Type = 26
	I64   Type = 27
	F64   Type = 28
	BF16  Type = 30
	TQ1_0 Type = 34 // 256 ternary weights and an f16 scale: 54 bytes
	TQ2_0 Type = 35 // 256 ternary weights and an f16 scale: 66 bytes
	Q2_0  Type = 42 // 64 2-bit weights and an f16 scale: 18 bytes
)

// typeInfo says how a tensor encoding lies in a file.
type typeInfo struct {
	name         string
	block, bytes int // weights and bytes of one block
	dtype        tensor.DType
}

// types holds the sizes of ggml's static block structures (ggml-common.h).
// Numbers that are missing were withdrawn by ggml.
var types = map[Type]typeInfo{
	F32: {"F32", 1, 4, tensor.F32}, F16: {"F16", 1, 2, tensor.F16}, BF16: {"BF16", 1, 2, tensor.BF16},
	F64: {"F64", 1, 8, tensor.F64}, I8: {"I8", 1, 1, tensor.I8}, I32: {"I32", 1, 4, tensor.I32},
	I16: {name: "I16", block: 1, bytes: 2}, I64: {name: "I64", block: 1, bytes: 8},
	Q4_0: {name: "Q4_0", block: 32, bytes: 18}, Q4_1: {name: "Q4_1", block: 32, bytes: 20},
	Q5_0: {name: "Q5_0", block: 32, bytes: 22}, Q5_1: {name: "Q5_1", block: 32, bytes: 24},
	Q8_0: {name: "Q8_0", block: 32, bytes: 34}, 9: {name: "Q8_1", block: 32, bytes: 36},
	10: {name: "Q2_K", block: 256, bytes: 84}, 11: {name: "Q3_K", block: 256, bytes: 110},
	Q4_K: {name: "Q4_K", block: 256, bytes: 144}, Q5_K: {name: "Q5_K", block: 256, bytes: 176},
	Q6_K: {name: "Q6_K", block: 256, bytes: 210}, 15: {name: "Q8_K", block: 256, bytes: 292},
	16: {name: "IQ2_XXS", block: 256, bytes: 66}, 17: {name: "IQ2_XS", block: 256, bytes: 74},
	18: {name: "IQ3_XXS", block: 256, bytes: 98}, 19: {name: "IQ1_S", block: 256, bytes: 50},
	20: {name: "IQ4_NL", block: 32, bytes: 18}, 21: {name: "IQ3_S", block: 256, bytes: 110},
	22: {name: "IQ2_S", block: 256, bytes: 82}, 23: {name: "IQ4_XS", block: 256, bytes: 136},
	29:    {name: "IQ1_M", block: 256, bytes: 56},
	TQ1_0: {name: "TQ1_0", block: 256, bytes: 54}, TQ2_0: {name: "TQ2_0", block: 256, bytes: 66},
	39: {name: "MXFP4", block: 32, bytes: 17}, 40: {name: "NVFP4", block: 64, bytes: 36},
	41: {name: "Q1_0", block: 128, bytes: 18}, Q2_0: {name: "Q2_0", block: 64, bytes: 18},
}

// String returns ggml's name, such as "Q2_0".
func (t Type) String() string {
	if i, ok := types[t]; ok {
		return i.name
	}
	return fmt.Sprintf("type(%d)", uint32(t))
}

// Known reports whether the size of t's blocks is known.
func (t Type) Known() bool { return types[t].block > 0 }

// Block returns the number of weights in one block, 1 for plain types and 0
// for unknown ones.
func (t Type) Block() int { return types[t].block }

// BlockBytes returns the size of one block, 0 for unknown types.
func (t Type) BlockBytes() int { return types[t].bytes }

// DType returns the encoding of package tensor with the same bytes, and
// whether there is one.
func (t Type) DType() (tensor.DType, bool) {
	d := types[t].dtype
	return d, d != tensor.Invalid
}

// TypeOf returns the tensor type with the same bytes as d; ErrType if there is
// none (bool and packed codes).
func TypeOf(d tensor.DType) (Type, error) {
	for t, i := range types {
		if i.dtype == d && d != tensor.Invalid {
			return t, nil
		}
	}
	return 0, errors.WithHint(errors.Wrapf(ErrType, "no tensor type holds %v as it is", d),
		"write packed codes as Q2_0, or convert the tensor to f32 or f16")
}

// MaxDims is ggml's GGML_MAX_DIMS.
const MaxDims = 4

// Bytes returns the size in bytes of a tensor of this type; shape is
// outermost first, and its last dimension must be a multiple of Block.
// Errors are ErrFormat.
func (t Type) Bytes(shape tensor.Shape) (int64, error) {
	info, ok := types[t]
	if !ok {
		return 0, errors.Wrapf(ErrFormat, "unknown tensor type %d", uint32(t))
	}
	if len(shape) > MaxDims {
		return 0, errors.Wrapf(ErrFormat, "%d dimensions, at most %d are allowed", len(shape), MaxDims)
	}
	n := int64(1)
	for _, d := range shape {
		if d <= 0 {
			return 0, errors.Wrapf(ErrFormat, "dimension %d of %v is not positive", d, shape)
		}
		if n > tensor.MaxElements/int64(d) {
			return 0, errors.Wrapf(ErrFormat, "%v has more than %d elements", shape, int64(tensor.MaxElements))
		}
		n *= int64(d)
	}
	row := 1
	if len(shape) > 0 {
		row = shape[len(shape)-1]
	}
	if row%info.block != 0 {
		return 0, errors.Wrapf(ErrFormat, "rows of %d elements are no multiple of the %d in a block of %v", row, info.block, t)
	}
	if blocks := n / int64(info.block); blocks <= math.MaxInt64/int64(info.bytes) {
		return blocks * int64(info.bytes), nil
	}
	return 0, errors.Wrapf(ErrFormat, "size of %v overflows", shape)
}
