// Command ternary writes the int8 x ternary matrix assembly of package simd.
//
// All kernels read the R16 layout: blocks of 16 rows by 16*steps columns, a block being 64*steps bytes of codes
// (level+1, two bits each) and 16 float32 scales. A 32-byte vector of codes holds 8 rows by 16 columns: dword = row, byte
// c of it = columns c, 4+c, 8+c and 12+c from the low bits up. So one broadcast dword of activations meets eight rows,
// and nothing is ever added across a vector.
//
// Fields are not all shifted down. v & 0x03 and v & 0x0C both go straight into VPMADDUBSW; the second gives four times
// its product and has an accumulator of its own, divided by four, exactly, at the block's end. The codes' +1 is undone by
// starting the accumulator at minus the block's sum of activations.
//
// Bounds, for at most 128 columns and activations in [-127, 127] (never -128): half of the columns go to each
// accumulator, in 16 steps (8 vectors of codes, two fields) of two products each to a 16-bit lane. The first: 32 products
// of at most 2*127 are 8,128, plus the offset's 128*127 = 16,256, is 24,384. The second: 32 products of 4*2*127 are
// 32,512. After the division the sum of both is at most 8,128 + 8,128 + 16,256 = 32,512. All are below 32,768.
package main

import b "github.com/mmcloughlin/avo/build"

func main() {
	b.ConstraintExpr("amd64,!purego")
	for _, long := range []bool{false, true} {
		for _, prefetch := range []bool{false, true} {
			gemv128(long, prefetch)
		}
	}
	for _, long := range []bool{false, true} {
		tokens(1, 2, long)
		tokens(2, 2, long)
		tokens(3, 1, long)
		tokens(4, 1, long)
	}
	peak()
	b.Generate()
}
