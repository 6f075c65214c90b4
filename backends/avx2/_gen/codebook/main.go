// Command codebook writes the assembly of package simd that multiplies int8 activations by codes of 1, 2 or 4 bits over
// any code book of int8 levels, or by int8 levels themselves, in exact integers.
//
// Layout: row blocks of 16 rows; in them groups, each of chunks of 32 columns and then 16 float32 scales. A chunk of
// b-bit codes is 64*b bytes. Its 32-byte vectors hold 8 rows, a dword each, and 32/b columns: field f of byte c of a
// dword, low bits first, is column 4f+c. So one broadcast dword of activations meets eight rows, and nothing is ever
// added across a vector. A chunk is, for any b, eight meetings of 8 rows with 4 columns.
//
// Kinds, for levels l and activations a in [-127, 127] (never -128), with u = l - min(l) and r the largest u:
//
//	linear  l = low + step*code: u is the code itself, of at most 15, and step comes in once a group
//	eight   r <= 16: u by VPSHUFB
//	one     r <= 129: u by VPSHUFB
//	signed  l in [-127, 127]: l by VPSHUFB, or the byte itself
//
// The first three undo the offset by adding min(l) * sum(a) to a group. VPMADDUBSW(u, a) is two products, of at most
// 2*127*r. That is below 32,768 for r <= 129 (32,766). For r <= 16 so is the sum of a chunk's eight: 8*2*127*16 = 32,512.
// Then VPMADDWD with ones widens to 32 bits: for one after every meeting, for linear and eight once a chunk.
//
// Signed moves the sign of a to the level: VPMADDUBSW(|a|, sign(a)*l) is at most 2*127*127 = 32,258 and is widened
// at once.
//
// 32-bit sums wrap, which is exact as long as a group's true sum fits: 127*128*2^17 < 2^31, and groups are that or less.
package main

import (
	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	b.ConstraintExpr("amd64,!purego")
	for _, bits := range []int{1, 2, 4, 8} {
		for _, kind := range []string{"Linear", "Eight", "One", "Signed"} {
			if bits == 1 && kind != "Linear" || bits == 8 && kind != "Signed" {
				continue // two levels are always in arithmetic progression, bytes are levels
			}
			for _, tokens := range []int{1, 2, 4} {
				k := kernel{bits: bits, kind: kind, tokens: tokens}
				k.emit()
			}
		}
	}
	magnitudes()
	shuffles()
	b.Generate()
}

// magnitudes writes |q| for kernels that move signs.
func magnitudes() {
	b.TEXT("magnitudesVec", attr.NOSPLIT, "func(dst, q []int8)")
	b.Pragma("noescape")
	b.Doc("magnitudesVec sets dst[i] = |q[i]|; len(dst) is a multiple of 32.")
	d, q, n := reg.RDI, reg.RSI, reg.RCX
	b.Load(b.Param("dst").Base(), d)
	b.Load(b.Param("dst").Len(), n)
	b.Load(b.Param("q").Base(), q)
	b.SHRQ(op.U8(5), n)
	b.JEQ(op.LabelRef("done"))
	b.Label("next")
	b.VPABSB(at(q, 0), reg.Y0)
	b.VMOVDQU(reg.Y0, at(d, 0))
	b.ADDQ(op.U8(32), q)
	b.ADDQ(op.U8(32), d)
	b.DECQ(n)
	b.JNE(op.LabelRef("next"))
	b.Label("done")
	b.VZEROUPPER()
	b.RET()
}
