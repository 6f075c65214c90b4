// Command ternary512 writes the int8 x ternary matrix assembly of package simd for AVX-512 with VNNI and GFNI.
//
// The kernels read the R16 layout of command ternary. A 64-byte vector of codes holds 16 rows by 16 columns: dword = row,
// byte c of it = columns c, 4+c, 8+c and 12+c from the low bits up. VPDPBUSD multiplies a vector of fields, four unsigned
// bytes a row, by a dword of activations that is the same for all rows, and adds the four products to the row's 32-bit
// sum. Nothing saturates, and nothing is ever added across a vector.
//
// A tile of n tokens shares what makes bytes of fields: a mask for the first, GF2P8AFFINEQB for the others, without a shift. For
// a block of 16 x 128 codes that is 32 instructions; each token takes 32 VPDPBUSD, and a conversion and a multiply-add at
// the group's end. VPDPBUSD starts twice a cycle and takes four or five, so that ten must be under way: few tokens have
// several sums each, which then are added. Two row blocks at a time also share the broadcasts of activations.
//
// The codes' +1 is undone by starting at minus the block's sum of activations, an int32.
//
// Bounds: 32-bit sums are only added to, and may wrap on the way; of a group they are exact if the result fits, which is at most
// 127 times its columns.
package main

import b "github.com/mmcloughlin/avo/build"

func main() {
	b.ConstraintExpr("amd64,!purego")
	for n := 1; n <= 4; n++ {
		tile{n, 4, 1}.emit()
	}
	for n := 3; n <= 12; n++ {
		if n <= 5 {
			tile{n, 2, 2}.emit()
		} else {
			tile{n, 1, 2}.emit()
		}
	}
	quantize()
	peak()
	b.Generate()
}
