package huggingface

import (
	"slices"

	"github.com/ternlm/tern/framework/tensor"
)

// perByte is how many output rows of a packed weight share a byte.
const perByte = 4

// Unpack turns the packed weight of a BitNet layer, bytes [M/4, K] in a tensor
// of type i8 (Dir.Tensor), into codes u2 [M, K]: 0, 1, 2 for -1, 0, +1. Bits 2j
// and 2j+1 of byte r, c are the code of row r + j*M/4 (unpack_weights of
// transformers' integrations/bitnet.py). A code 3 and other types are ErrFormat.
func Unpack(packed *tensor.Tensor) (*tensor.Tensor, error) {
	if packed.DType != tensor.I8 || len(packed.Shape) != 2 || len(packed.Data) != packed.Bytes() {
		return nil, malformed("packed weights are bytes in two dimensions, not %v", packed.Type)
	}
	rows, cols := packed.Shape[0], packed.Shape[1]
	codes := tensor.New(tensor.T(tensor.U2, perByte*rows, cols))
	stride := (cols + 3) / 4
	for r := range rows {
		in := packed.Data[r*cols : (r+1)*cols]
		if c := slices.IndexFunc(in, hasThree); c >= 0 {
			return nil, malformed("packed weights: byte %#02x in row %d, column %d holds a code 3", in[c], r, c)
		}
		for j := range perByte {
			out := codes.Data[(r+j*rows)*stride:][:stride]
			for c, b := range in {
				out[c/4] |= b >> (2 * j) & 3 << (2 * (c % 4))
			}
		}
	}
	return codes, nil
}

// hasThree reports whether one of a byte's four codes is 3.
func hasThree(b byte) bool { return b&(b>>1)&0x55 != 0 }

// Pack is the inverse of Unpack. M must be a multiple of 4, as the layers that
// read it demand.
func Pack(codes *tensor.Tensor) (*tensor.Tensor, error) {
	if codes.DType != tensor.U2 || len(codes.Shape) != 2 || len(codes.Data) != codes.Bytes() || codes.Shape[0]%perByte != 0 {
		return nil, unwritable("codes are u2 in two dimensions, the first a multiple of %d, not %v", perByte, codes.Type)
	}
	rows, cols := codes.Shape[0]/perByte, codes.Shape[1]
	packed := tensor.New(tensor.T(tensor.I8, rows, cols))
	stride := (cols + 3) / 4
	for r := range rows {
		out := packed.Data[r*cols : (r+1)*cols]
		for j := range perByte {
			in := codes.Data[(r+j*rows)*stride:][:stride]
			for c := range out {
				out[c] |= in[c/4] >> (2 * (c % 4)) & 3 << (2 * j)
			}
		}
		if c := slices.IndexFunc(out, hasThree); c >= 0 {
			return nil, unwritable("a code 3 in column %d of row %d or one of its fellows", c, r)
		}
	}
	return packed, nil
}
