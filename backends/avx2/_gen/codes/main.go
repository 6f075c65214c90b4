// Command codes writes the assembly of package simd that turns ternary levels into two-bit codes, and stored codes into
// panels of float32, the right operand of a product.
//
// A row of a panel is 16 floats made of one dword of two-bit codes. A code is looked up, not computed: VPERMILPS takes
// one of four floats by the low two bits of each dword, and the four are the row's scale times -1, 0, 1 and 0. So two
// shifts, two look-ups and two stores make 16 floats.
//
// Of a book of 16 levels two look-ups of eight make a code's value, and its highest bit chooses between them.
//
// A code is one more for a value over 1/2 and one less for a value not over -1/2, and comparisons give -1 for yes. Narrowing and multiply-adds with powers of four bring four codes into a byte.
// A code of a book is the number of thresholds that a value is over.
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
	bookPanels()
	encodeBook()
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

// orders is that of encodeTernary, which encodeBook has too.
var orders op.Mem

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
	orders = order()
	b.VMOVDQU(orders, reg.Y9)
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

// nibbles is a 64-byte constant: how far to shift right for each of 8 codes, and how far left for their highest bits to
// become signs.
func nibbles() op.Mem {
	m := b.GLOBL("codeNibbles", attr.RODATA|attr.NOPTR)
	for i := range 8 {
		b.DATA(4*i, op.U32(uint32(4*i)))
	}
	for i := range 8 {
		b.DATA(32+4*i, op.U32(uint32(28-4*i)))
	}
	return m
}

func bookPanels() {
	b.TEXT("bookPanels", attr.NOSPLIT, "func(dst []float32, ldp int, codes []byte, ldc int, scales []float32, lds, rows, panels int, values *[16]float32)")
	b.Pragma("noescape")
	b.Doc("bookPanels sets dst[p*ldp+r*16+j] = values[code] * scales[r*lds] for four-bit codes, low bits first, that start at",
		"codes[r*ldc+8*p]. rows and panels are at least 1.")
	dst, codes, scales, values := reg.RDI, reg.RSI, reg.RDX, reg.R13
	ldp, ldc, lds, rows, panels := reg.R8, reg.R9, reg.R10, reg.R11, reg.R12
	to, from, n := reg.RAX, reg.RBX, reg.RCX
	for _, p := range []struct {
		c  gotypes.Component
		to reg.GPPhysical
	}{
		{b.Param("dst").Base(), dst},
		{b.Param("codes").Base(), codes},
		{b.Param("scales").Base(), scales},
		{b.Param("values"), values},
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
	shifts := nibbles()
	right, left, low, high := reg.Y15, reg.Y14, reg.Y13, reg.Y12
	b.VMOVDQU(shifts, right)
	b.VMOVDQU(shifts.Offset(32), left)
	b.VMOVUPS(op.Mem{Base: values}, low)
	b.VMOVUPS(op.Mem{Base: values, Disp: 32}, high)

	b.Label("row")
	b.VBROADCASTSS(op.Mem{Base: scales}, reg.Y9)
	b.VMULPS(low, reg.Y9, reg.Y10)
	b.VMULPS(high, reg.Y9, reg.Y11)
	b.MOVQ(dst, to)
	b.MOVQ(codes, from)
	b.MOVQ(panels, n)
	b.Label("panel")
	for half := range 2 {
		b.VPBROADCASTD(op.Mem{Base: from, Disp: 4 * half}, reg.Y0)
		b.VPSRLVD(right, reg.Y0, reg.Y1)
		b.VPSLLVD(left, reg.Y0, reg.Y2)
		b.VPERMPS(reg.Y10, reg.Y1, reg.Y3) // by the low three bits
		b.VPERMPS(reg.Y11, reg.Y1, reg.Y4)
		b.VBLENDVPS(reg.Y2, reg.Y4, reg.Y3, reg.Y3)
		b.VMOVUPS(reg.Y3, op.Mem{Base: to, Disp: 32 * half})
	}
	b.ADDQ(op.U8(8), from)
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

func encodeBook() {
	b.TEXT("encodeBookVec", attr.NOSPLIT, "func(dst []byte, x []float32, over *[16]float32) (wild bool)")
	b.Pragma("noescape")
	b.Doc("encodeBookVec writes the codes of x, two a byte, low bits first: how many of the first 15 of over are less than x.",
		"It reports whether there was a value of 2^20 or more, either sign, or a NaN. len(x) is a multiple of 32.")
	dst, x, over, n := reg.RDI, reg.RSI, reg.RDX, reg.RCX
	b.Load(b.Param("dst").Base(), dst)
	b.Load(b.Param("x").Base(), x)
	b.Load(b.Param("x").Len(), n)
	b.Load(b.Param("over"), over)
	magnitude, limit, wild := reg.Y15, reg.Y14, reg.Y13
	b.VMOVDQU(repeated("codeMagnitude", 0x7fffffff), magnitude)
	b.VMOVUPS(repeated("codeLimit", math.Float32bits(1<<20)), limit)
	b.VMOVDQU(repeated("codeTwo", 0x10011001), reg.Y12)
	b.VMOVDQU(orders, reg.Y11)
	b.VPXOR(wild, wild, wild)
	values := []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3}
	counts := []reg.VecPhysical{reg.Y4, reg.Y5, reg.Y6, reg.Y7}
	const greater, notLess = 14, 5 // NaN is not greater, and not less
	b.SHRQ(op.U8(5), n)
	b.JEQ(op.LabelRef("done"))
	b.Label("loop")
	for i, v := range values {
		b.VMOVUPS(op.Mem{Base: x, Disp: 32 * i}, v)
		b.VANDPS(magnitude, v, reg.Y8)
		b.VCMPPS(op.U8(notLess), limit, reg.Y8, reg.Y8)
		b.VPOR(reg.Y8, wild, wild)
		b.VPXOR(counts[i], counts[i], counts[i])
	}
	for t := range 15 {
		b.VBROADCASTSS(op.Mem{Base: over, Disp: 4 * t}, reg.Y10)
		for i, v := range values {
			tmp := []reg.VecPhysical{reg.Y8, reg.Y9}[i%2]
			b.VCMPPS(op.U8(greater), reg.Y10, v, tmp)
			b.VPSUBD(tmp, counts[i], counts[i])
		}
	}
	b.VPACKSSDW(counts[1], counts[0], counts[0])
	b.VPACKSSDW(counts[3], counts[2], counts[2])
	b.VPACKSSWB(counts[2], counts[0], counts[0])
	b.VPERMD(counts[0], reg.Y11, counts[0])
	b.VPMADDUBSW(reg.Y12, counts[0], counts[0]) // c0 + 16 c1
	b.VPACKUSWB(counts[0], counts[0], counts[0])
	b.VPERMQ(op.U8(0x08), counts[0], counts[0])
	b.VMOVDQU(counts[0].AsX(), op.Mem{Base: dst})
	b.ADDQ(op.U8(128), x)
	b.ADDQ(op.U8(16), dst)
	b.DECQ(n)
	b.JNE(op.LabelRef("loop"))
	b.Label("done")
	b.VPTEST(wild, wild)
	found := b.GP8()
	b.SETNE(found)
	b.Store(found, b.ReturnIndex(0))
	b.VZEROUPPER()
	b.RET()
}
