// Command codes writes the assembly of package simd that turns ternary levels into two-bit codes, and stored codes into
// panels of float32, the right operand of a product.
//
// A row of a panel is 16 floats made of one dword of two-bit codes. A code is looked up, not computed: VPERMILPS takes
// one of four floats by the low two bits of each dword, and the four are the row's scale times -1, 0, 1 and 0. So two
// shifts, two look-ups and two stores make 16 floats.
//
// A code is one more for a value over 1/2 and one less for a value not over -1/2, and comparisons give -1 for yes. Narrowing and multiply-adds with powers of four bring four codes into a byte.
package main

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	b.ConstraintExpr("amd64,!purego")
	ternaryPanels()
	encodeTernary()
	b.Generate()
}

// levels is a 32-byte constant: the four values of a code, twice. The code 3 stands for nothing.
func levels() op.Mem {
	m := b.GLOBL("codeValues", attr.RODATA|attr.NOPTR)
	for i := range 8 {
		b.DATA(4*i, op.U32(math.Float32bits([]float32{-1, 0, 1, 0}[i%4])))
	}
	return m
}

// fields is a 64-byte constant: how far to shift for each of 16 codes.
func fields() op.Mem {
	m := b.GLOBL("codeShifts", attr.RODATA|attr.NOPTR)
	for i := range 16 {
		b.DATA(4*i, op.U32(uint32(2*i)))
	}
	return m
}

func ternaryPanels() {
	b.TEXT("ternaryPanels", attr.NOSPLIT, "func(dst []float32, ldp int, codes []byte, ldc int, scales []float32, lds, rows, panels int)")
	b.Pragma("noescape")
	b.Doc("ternaryPanels sets dst[p*ldp+r*16+j] = level * scales[r*lds] for two-bit codes, low bits first, that start at",
		"codes[r*ldc+4*p]; the levels are -1, 0, 1 and 0. rows and panels are at least 1.")
	dst, codes, scales := reg.RDI, reg.RSI, reg.RDX
	ldp, ldc, lds, rows, panels := reg.R8, reg.R9, reg.R10, reg.R11, reg.R12
	to, from, n := reg.RAX, reg.RBX, reg.RCX
	for _, p := range []struct {
		c  gotypes.Component
		to reg.GPPhysical
	}{
		{b.Param("dst").Base(), dst},
		{b.Param("codes").Base(), codes},
		{b.Param("scales").Base(), scales},
		{b.Param("ldp"), ldp},
		{b.Param("ldc"), ldc},
		{b.Param("lds"), lds},
		{b.Param("rows"), rows},
		{b.Param("panels"), panels},
	} {
		b.Load(p.c, p.to)
	}
	b.SHLQ(op.U8(2), ldp)
	b.SHLQ(op.U8(2), lds)
	shifts := fields()
	b.VMOVDQU(shifts, reg.Y14)
	b.VMOVDQU(shifts.Offset(32), reg.Y15)
	b.VMOVUPS(levels(), reg.Y13)

	b.Label("row")
	b.VBROADCASTSS(op.Mem{Base: scales}, reg.Y12)
	b.VMULPS(reg.Y13, reg.Y12, reg.Y12)
	b.MOVQ(dst, to)
	b.MOVQ(codes, from)
	b.MOVQ(panels, n)
	b.Label("panel")
	b.VPBROADCASTD(op.Mem{Base: from}, reg.Y0)
	b.VPSRLVD(reg.Y14, reg.Y0, reg.Y1)
	b.VPSRLVD(reg.Y15, reg.Y0, reg.Y2)
	b.VPERMILPS(reg.Y1, reg.Y12, reg.Y1)
	b.VPERMILPS(reg.Y2, reg.Y12, reg.Y2)
	b.VMOVUPS(reg.Y1, op.Mem{Base: to})
	b.VMOVUPS(reg.Y2, op.Mem{Base: to, Disp: 32})
	b.ADDQ(op.U8(4), from)
	b.ADDQ(ldp, to)
	b.DECQ(n)
	b.JNE(op.LabelRef("panel"))
	b.ADDQ(op.U8(64), dst)
	b.ADDQ(ldc, codes)
	b.ADDQ(lds, scales)
	b.DECQ(rows)
	b.JNE(op.LabelRef("row"))
	b.VZEROUPPER()
	b.RET()
}

// repeated is a 32-byte constant of equal dwords.
func repeated(name string, bits uint32) op.Mem {
	m := b.GLOBL(name, attr.RODATA|attr.NOPTR)
	for i := range 8 {
		b.DATA(4*i, op.U32(bits))
	}
	return m
}

// gather is a 32-byte shuffle that brings the low bytes of each half's dwords together.
func gather() op.Mem {
	m := b.GLOBL("codeBytes", attr.RODATA|attr.NOPTR)
	for i := range 8 {
		bits := uint32(0x80808080)
		if i%4 == 0 {
			bits = 0x0c080400
		}
		b.DATA(4*i, op.U32(bits))
	}
	return m
}

// order is a 32-byte permutation: narrowing twice leaves the dwords of four vectors interleaved by halves.
func order() op.Mem {
	m := b.GLOBL("codeOrder", attr.RODATA|attr.NOPTR)
	for i, k := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} {
		b.DATA(4*i, op.U32(k))
	}
	return m
}

func encodeTernary() {
	b.TEXT("encodeTernaryVec", attr.NOSPLIT, "func(dst []byte, x []float32)")
	b.Pragma("noescape")
	b.Doc("encodeTernaryVec writes the codes of x, four a byte, low bits first: 2 over 1/2, 1 over -1/2, else 0.",
		"len(x) is a multiple of 32.")
	dst, x, n := reg.RDI, reg.RSI, reg.RCX
	b.Load(b.Param("dst").Base(), dst)
	b.Load(b.Param("x").Base(), x)
	b.Load(b.Param("x").Len(), n)
	half, minusHalf := reg.Y15, reg.Y14
	b.VMOVUPS(repeated("codeHalf", math.Float32bits(0.5)), half)
	b.VMOVUPS(repeated("codeMinusHalf", math.Float32bits(-0.5)), minusHalf)
	b.VMOVDQU(repeated("codeOnes", 0x01010101), reg.Y13)
	b.VMOVDQU(repeated("codePairs", 0x04010401), reg.Y12)
	b.VMOVDQU(repeated("codeQuads", 0x00100001), reg.Y11)
	b.VMOVDQU(gather(), reg.Y10)
	b.VMOVDQU(order(), reg.Y9)
	ymm := []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3}
	b.SHRQ(op.U8(5), n)
	b.JEQ(op.LabelRef("done"))
	b.Label("loop")
	const under, over = 26, 14 // not greater, which NaN is not either; greater
	for i, v := range ymm {
		b.VMOVUPS(op.Mem{Base: x, Disp: 32 * i}, v)
		b.VCMPPS(op.U8(over), half, v, reg.Y4)
		b.VCMPPS(op.U8(under), minusHalf, v, v)
		b.VPSUBD(reg.Y4, v, v) // -1, 0 or 1: the level
	}
	b.VPACKSSDW(ymm[1], ymm[0], ymm[0])
	b.VPACKSSDW(ymm[3], ymm[2], ymm[2])
	b.VPACKSSWB(ymm[2], ymm[0], ymm[0])
	b.VPERMD(ymm[0], reg.Y9, ymm[0])
	b.VPADDB(reg.Y13, ymm[0], ymm[0])
	b.VPMADDUBSW(reg.Y12, ymm[0], ymm[0]) // c0 + 4 c1
	b.VPMADDWD(reg.Y11, ymm[0], ymm[0])   // and 16 times the next
	b.VPSHUFB(reg.Y10, ymm[0], ymm[0])
	b.VEXTRACTI128(op.U8(1), ymm[0], reg.X1)
	b.VPUNPCKLDQ(reg.X1, reg.X0, reg.X0)
	b.VMOVQ(reg.X0, op.Mem{Base: dst})
	b.ADDQ(op.U8(128), x)
	b.ADDQ(op.U8(8), dst)
	b.DECQ(n)
	b.JNE(op.LabelRef("loop"))
	b.Label("done")
	b.VZEROUPPER()
	b.RET()
}
