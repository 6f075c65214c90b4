package huggingface

import (
	"encoding/binary"

	"github.com/ternlm/tern/framework/tensor"
)

// PerByte is how many output rows of a packed weight share a byte.
const PerByte = 4

// Unpack turns the packed weight of a BitNet layer, bytes [M/4, K] in a tensor
// of type i8 (Dir.Tensor), into codes u2 [M, K]: 0, 1, 2 for -1, 0, +1. Bits 2j
// and 2j+1 of byte r, c are the code of row r + j*M/4 (unpack_weights of
// transformers' integrations/bitnet.py). A code 3 and other types are ErrFormat.
func Unpack(packed *tensor.Tensor) (*tensor.Tensor, error) {
	if packed.DType != tensor.I8 || len(packed.Shape) != 2 || len(packed.Data) != packed.Bytes() {
		return nil, malformed("packed weights are bytes in two dimensions, not %v", packed.Type)
	}
	rows, cols := packed.Shape[0], packed.Shape[1]
	codes := tensor.New(tensor.T(tensor.U2, PerByte*rows, cols))
	stride := (cols + 3) / 4
	for r := range rows {
		in := packed.Data[r*cols : (r+1)*cols]
		if c := firstThree(in); c >= 0 {
			return nil, malformed("packed weights: byte %#02x in row %d, column %d holds a code 3", in[c], r, c)
		}
		for j := range PerByte {
			gather(codes.Data[(r+j*rows)*stride:][:stride], in, 2*j)
		}
	}
	return codes, nil
}

// firstThree is the place of the first byte with a code 3, -1 if there is none. A
// code is 3 where both its bits are set; what a shift brings from the next byte
// falls on odd bits, which are not looked at.
func firstThree(in []byte) int {
	for i := 0; i < len(in); i++ {
		if len(in)-i >= 8 {
			if x := binary.LittleEndian.Uint64(in[i:]); x&(x>>1)&0x5555555555555555 == 0 {
				i += 7
				continue
			}
		}
		if b := in[i]; b&(b>>1)&0x55 != 0 {
			return i
		}
	}
	return -1
}

// Eight bytes hold a code each in bits shift and shift+1: alone, they are the two
// lowest of every 8 bits of a word. Halving the distance three times leaves the
// eight codes side by side in 16 bits, and the same backwards.
const (
	every8  = 0x0303030303030303
	every16 = 0x000f000f000f000f
	every32 = 0x000000ff000000ff
)

// gather puts the code in bits shift and shift+1 of each byte of in, one after
// another, into out, which is zero.
func gather(out, in []byte, shift int) {
	for len(in) >= 8 {
		x := binary.LittleEndian.Uint64(in) >> shift & every8
		x = (x | x>>6) & every16
		x = (x | x>>12) & every32
		binary.LittleEndian.PutUint16(out, uint16(x|x>>24))
		in, out = in[8:], out[2:]
	}
	for c, b := range in {
		out[c/4] |= b >> shift & 3 << (2 * (c % 4))
	}
}

// scatter is the inverse of gather: it adds a code of in to each byte of out.
func scatter(out, in []byte, shift int) {
	for len(out) >= 8 {
		x := uint64(binary.LittleEndian.Uint16(in))
		x = (x | x<<24) & every32
		x = (x | x<<12) & every16
		x = (x | x<<6) & every8
		binary.LittleEndian.PutUint64(out, binary.LittleEndian.Uint64(out)|x<<shift)
		in, out = in[2:], out[8:]
	}
	for c := range out {
		out[c] |= in[c/4] >> (2 * (c % 4)) & 3 << shift
	}
}

// Pack is the inverse of Unpack. M must be a multiple of 4, as the layers that
// read it demand.
func Pack(codes *tensor.Tensor) (*tensor.Tensor, error) {
	if codes.DType != tensor.U2 || len(codes.Shape) != 2 || len(codes.Data) != codes.Bytes() || codes.Shape[0]%PerByte != 0 {
		return nil, unwritable("codes are u2 in two dimensions, the first a multiple of %d, not %v", PerByte, codes.Type)
	}
	rows, cols := codes.Shape[0]/PerByte, codes.Shape[1]
	packed := tensor.New(tensor.T(tensor.I8, rows, cols))
	stride := (cols + 3) / 4
	for r := range rows {
		out := packed.Data[r*cols : (r+1)*cols]
		for j := range PerByte {
			scatter(out, codes.Data[(r+j*rows)*stride:][:stride], 2*j)
		}
		if c := firstThree(out); c >= 0 {
			return nil, unwritable("a code 3 in column %d of row %d or one of its fellows", c, r)
		}
	}
	return packed, nil
}
