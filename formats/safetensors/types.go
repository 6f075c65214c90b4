package safetensors

import (
	"github.com/ternlm/tern/framework/tensor"
)

// typePrefix begins the metadata keys that hold the type of packed tensors.
const typePrefix = "tern.type."

// u8 is the dtype that carries packed codes.
const u8 = "U8"

// dtypeInfo is an encoding of the format: bits of an element, and the encoding
// of package tensor with the same bytes, if any.
type dtypeInfo struct {
	bits  int
	dtype tensor.DType
}

var dtypes = map[string]dtypeInfo{
	"F64": {64, tensor.F64}, "F32": {32, tensor.F32}, "F16": {16, tensor.F16}, "BF16": {16, tensor.BF16},
	"I32": {32, tensor.I32}, "I8": {8, tensor.I8}, "BOOL": {8, tensor.Bool},
	u8: {bits: 8}, "I16": {bits: 16}, "U16": {bits: 16}, "U32": {bits: 32}, "I64": {bits: 64}, "U64": {bits: 64},
	"F8_E5M2": {bits: 8}, "F8_E4M3": {bits: 8}, "F8_E8M0": {bits: 8},
}

// dtypeName returns the format's name of d, U8 for packed codes.
func dtypeName(d tensor.DType) string {
	if d.Codes() {
		return u8
	}
	for name, i := range dtypes {
		if i.dtype == d && d != tensor.Invalid {
			return name
		}
	}
	return ""
}

// storedShape returns the dimensions that a tensor has in the file: its own,
// or, for packed codes, with the last dimension in bytes. It is never nil.
func storedShape(t tensor.Type) tensor.Shape {
	s := append(tensor.Shape{}, t.Shape...)
	if last := len(s) - 1; last >= 0 && t.DType.Codes() {
		s[last] = (s[last] + t.DType.Block() - 1) / t.DType.Block()
	}
	return s
}
