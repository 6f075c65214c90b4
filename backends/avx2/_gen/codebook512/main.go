// Command codebook512 writes the assembly of package simd that multiplies int8 activations by codes of 1, 2 or 4 bits over
// any code book of int8 levels, or by int8 levels themselves, with AVX-512, VNNI and VBMI. The layout is that of command
// codebook; here a 64-byte vector holds the 16 rows of a row block, a dword each.
//
// There is one kind of arithmetic for all levels l, since VPDPBUSD adds four products of an unsigned and a signed byte to
// 32 bits without an intermediate sum that could overflow: u = l - min(l), of 0 to 255, is the unsigned byte, the
// activation is the signed one, and min(l) * sum(a) is added once a group. Sums may wrap on the way, which is exact as
// long as the group's true sum fits in 32 bits; NewCodebook sees to that.
//
// VPERMB looks u up in a table of 64 bytes by the low six bits of each byte and ignores the upper two. With a table for each
// field that lies in those six bits (entry i has u of the code that is in the field when the byte is i), a field needs
// neither a shift nor a mask. The fields above are brought there by one shift. It shifts words, so that the upper bits of a
// byte become those of the next one; no table depends on them:
//
//	bits  tables  shift
//	1     4       4       fields 4 to 7 become 0 to 3 (tables of six fields would need more registers)
//	2     3       2       field 3 becomes 2
//	4     1       4       field 1 becomes 0
//
// Bytes need no table: u = l + 128 is the byte with its highest bit turned.
//
// Two row blocks share what is loaded of the activations, each dword of which is broadcast once for both. One token takes
// them one by one: with two, what it saves is less than what sums in memory cost.
package main

import (
	b "github.com/mmcloughlin/avo/build"
)

func main() {
	b.ConstraintExpr("amd64,!purego")
	for _, bits := range []int{1, 2, 4, 8} {
		k := kernel{bits: bits}
		k.emit()
	}
	b.Generate()
}
