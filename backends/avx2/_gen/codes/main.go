// Command codes writes the assembly of package simd that turns ternary levels into two-bit codes, and stored codes into
// panels of float32, the right operand of a product.
//
// A row of a panel is 16 floats made of up to 16 bytes of codes. A code is looked up, not computed: VPERMILPS takes one of
// four floats by the low two bits of each dword, and the four are the row's scale times the levels. So two shifts, two
// look-ups and two stores make 16 floats.
//
// Of a book of 16 levels two look-ups of eight make a code's value, and its highest bit chooses between them. Bytes are
// converted.
//
// A code is one more for a value over 1/2 and one less for a value not over -1/2, and comparisons give -1 for
// yes. Narrowing and multiply-adds with powers of four bring four codes into a byte.
// A code of a book is the number of thresholds that a value is over. Of two levels there is one, and the signs of eight
// comparisons are a byte.
package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	b.ConstraintExpr("amd64,!purego")
	for _, k := range []panelKind{few(1), few(2), four(), eight()} {
		k.emit()
	}
	encodeTernary()
	encodeBook()
	encodeBits()
	encodeLevels()
	b.Generate()
}

// panelKind makes panels of codes of so many bits. enter loads what all rows share, row prepares the values of a row, whose
// scale is in Y9, and panel makes the 16 floats of a panel in Y1 and Y2 of the codes at a place.
type panelKind struct {
	bits       int
	enter, row func()
	panel      func(from reg.Register)
}

// Registers of the panel routines that the kinds see.
var (
	values      = reg.R13
	right, left = reg.Y15, reg.Y14
	low, high   = reg.Y13, reg.Y12
)

// shifts loads how far to shift right for each of 16 codes.
func shifts(bits int) {
	m := b.GLOBL(fmt.Sprintf("codeShifts%d", bits), attr.RODATA|attr.NOPTR)
	for i := range 16 {
		b.DATA(4*i, op.U32(uint32(bits*i)))
	}
	b.VMOVDQU(m, right)
	b.VMOVDQU(m.Offset(32), left)
}

// few is codes of one or two bits. VPERMILPS looks at the low two bits of each dword, so one bit has each value twice, and
// what is above it does not matter.
func few(bits int) panelKind {
	return panelKind{
		bits: bits,
		enter: func() {
			shifts(bits)
			b.VBROADCASTF128(op.Mem{Base: values}, low)
		},
		row: func() { b.VMULPS(low, reg.Y9, reg.Y10) },
		panel: func(from reg.Register) {
			if bits == 1 {
				b.VPBROADCASTW(op.Mem{Base: from}, reg.Y0)
			} else {
				b.VPBROADCASTD(op.Mem{Base: from}, reg.Y0)
			}
			b.VPSRLVD(right, reg.Y0, reg.Y1)
			b.VPSRLVD(left, reg.Y0, reg.Y2)
			b.VPERMILPS(reg.Y1, reg.Y10, reg.Y1)
			b.VPERMILPS(reg.Y2, reg.Y10, reg.Y2)
		},
	}
}

// four is codes of four bits: two look-ups by the low three, and the highest chooses.
func four() panelKind {
	return panelKind{
		bits: 4,
		enter: func() {
			shifts := nibbles()
			b.VMOVDQU(shifts, right)
			b.VMOVDQU(shifts.Offset(32), left)
			b.VMOVUPS(op.Mem{Base: values}, low)
			b.VMOVUPS(op.Mem{Base: values, Disp: 32}, high)
		},
		row: func() {
			b.VMULPS(low, reg.Y9, reg.Y10)
			b.VMULPS(high, reg.Y9, reg.Y11)
		},
		panel: func(from reg.Register) {
			for half, to := range []reg.VecPhysical{reg.Y1, reg.Y2} {
				b.VPBROADCASTD(op.Mem{Base: from, Disp: 4 * half}, reg.Y0)
				b.VPSRLVD(right, reg.Y0, reg.Y3)
				b.VPSLLVD(left, reg.Y0, reg.Y0)
				b.VPERMPS(reg.Y10, reg.Y3, reg.Y4)
				b.VPERMPS(reg.Y11, reg.Y3, reg.Y5)
				b.VBLENDVPS(reg.Y0, reg.Y5, reg.Y4, to)
			}
		},
	}
}

// eight is bytes that are levels, or -128, which stands for nothing.
func eight() panelKind {
	return panelKind{
		bits:  8,
		enter: func() { b.VMOVDQU(repeated("codeNothing", 0x80808080), low) },
		row:   func() {},
		panel: func(from reg.Register) {
			b.VMOVDQU(op.Mem{Base: from}, reg.X0)
			b.VPCMPEQB(low.AsX(), reg.X0, reg.X1)
			b.VPANDN(reg.X0, reg.X1, reg.X0)
			b.VPMOVSXBD(reg.X0, reg.Y1)
			b.VPSRLDQ(op.U8(8), reg.X0, reg.X0)
			b.VPMOVSXBD(reg.X0, reg.Y2)
			for _, v := range []reg.VecPhysical{reg.Y1, reg.Y2} {
				b.VCVTDQ2PS(v, v)
				b.VMULPS(v, reg.Y9, v)
			}
		},
	}
}

func (k panelKind) emit() {
	name := fmt.Sprintf("bookPanels%d", k.bits)
	b.TEXT(name, attr.NOSPLIT, "func(dst []float32, ldp int, codes []byte, ldc int, scales []float32, lds, rows, panels int, values *[16]float32)")
	b.Pragma("noescape")
	b.Doc(fmt.Sprintf("%s is bookPanelsRef for codes of %d bits. rows and panels are at least 1.", name, k.bits))
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
	k.enter()

	b.Label("row")
	b.VBROADCASTSS(op.Mem{Base: scales}, reg.Y9)
	k.row()
	b.MOVQ(dst, to)
	b.MOVQ(codes, from)
	b.MOVQ(panels, n)
	b.Label("panel")
	k.panel(from)
	b.VMOVUPS(reg.Y1, op.Mem{Base: to})
	b.VMOVUPS(reg.Y2, op.Mem{Base: to, Disp: 32})
	b.ADDQ(op.U8(2*k.bits), from)
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

// Constants that more than one routine has.
var orders, halves, magnitudes, limits op.Mem

// Registers of the routines that look out for wild values: whose distances to levels are not exact.
var magnitude, limit, wild = reg.Y8, reg.Y7, reg.Y6

// wildness starts looking out.
func wildness() {
	if magnitudes.Symbol.Name == "" {
		magnitudes, limits = repeated("codeMagnitude", 0x7fffffff), repeated("codeLimit", math.Float32bits(1<<20))
	}
	b.VMOVDQU(magnitudes, magnitude)
	b.VMOVUPS(limits, limit)
	b.VPXOR(wild, wild, wild)
}

// findWild looks at v.
func findWild(v, t reg.VecPhysical) {
	b.VANDPS(magnitude, v, t)
	b.VCMPPS(op.U8(notLess), limit, t, t)
	b.VPOR(t, wild, wild)
}

// reportWild returns whether there was one.
func reportWild() {
	b.VPTEST(wild, wild)
	found := b.GP8()
	b.SETNE(found)
	b.Store(found, b.ReturnIndex(0))
}

// Predicates of comparisons. NaN is not greater, and not less.
const greater, notLess = 14, 5

func encodeTernary() {
	b.TEXT("encodeTernaryVec", attr.NOSPLIT, "func(dst []byte, x []float32) (wild bool)")
	b.Pragma("noescape")
	b.Doc("encodeTernaryVec writes the codes of x, four a byte, low bits first: 2 over 1/2, 1 over -1/2, else 0.",
		"It reports whether there was a value of 2^20 or more, either sign, or a NaN. len(x) is a multiple of 32.")
	dst, x, n := reg.RDI, reg.RSI, reg.RCX
	b.Load(b.Param("dst").Base(), dst)
	b.Load(b.Param("x").Base(), x)
	b.Load(b.Param("x").Len(), n)
	wildness()
	half, minusHalf := reg.Y15, reg.Y14
	halves = repeated("codeHalf", math.Float32bits(0.5))
	b.VMOVUPS(halves, half)
	b.VMOVUPS(repeated("codeMinusHalf", math.Float32bits(-0.5)), minusHalf)
	b.VMOVDQU(repeated("codeOnes", 0x01010101), reg.Y13)
	b.VMOVDQU(repeated("codePairs", 0x04010401), reg.Y12)
	b.VMOVDQU(repeated("codeQuads", 0x00100001), reg.Y11)
	b.VMOVDQU(gather(), reg.Y10)
	orders = order()
	orderly := reg.Y9
	b.VMOVDQU(orders, orderly)
	ymm := []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3}
	b.SHRQ(op.U8(5), n)
	b.JEQ(op.LabelRef("done"))
	b.Label("loop")
	const under, over = 26, 14 // not greater, which NaN is not either; greater
	for i, v := range ymm {
		b.VMOVUPS(op.Mem{Base: x, Disp: 32 * i}, v)
		findWild(v, reg.Y4)
		b.VCMPPS(op.U8(over), half, v, reg.Y4)
		b.VCMPPS(op.U8(under), minusHalf, v, v)
		b.VPSUBD(reg.Y4, v, v) // -1, 0 or 1: the level
	}
	b.VPACKSSDW(ymm[1], ymm[0], ymm[0])
	b.VPACKSSDW(ymm[3], ymm[2], ymm[2])
	b.VPACKSSWB(ymm[2], ymm[0], ymm[0])
	b.VPERMD(ymm[0], orderly, ymm[0])
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
	reportWild()
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
	wildness()
	b.VMOVDQU(repeated("codeTwo", 0x10011001), reg.Y5)
	b.VMOVDQU(orders, reg.Y4)
	values := []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3}
	counts := []reg.VecPhysical{reg.Y12, reg.Y13, reg.Y14, reg.Y15}
	b.SHRQ(op.U8(5), n)
	b.JEQ(op.LabelRef("done"))
	b.Label("loop")
	for i, v := range values {
		b.VMOVUPS(op.Mem{Base: x, Disp: 32 * i}, v)
		findWild(v, reg.Y9)
		b.VPXOR(counts[i], counts[i], counts[i])
	}
	for t := range 15 {
		b.VBROADCASTSS(op.Mem{Base: over, Disp: 4 * t}, reg.Y11)
		for i, v := range values {
			tmp := []reg.VecPhysical{reg.Y9, reg.Y10}[i%2]
			b.VCMPPS(op.U8(greater), reg.Y11, v, tmp)
			b.VPSUBD(tmp, counts[i], counts[i])
		}
	}
	b.VPACKSSDW(counts[1], counts[0], counts[0])
	b.VPACKSSDW(counts[3], counts[2], counts[2])
	b.VPACKSSWB(counts[2], counts[0], counts[0])
	b.VPERMD(counts[0], reg.Y4, counts[0])
	b.VPMADDUBSW(reg.Y5, counts[0], counts[0]) // c0 + 16 c1
	b.VPACKUSWB(counts[0], counts[0], counts[0])
	b.VPERMQ(op.U8(0x08), counts[0], counts[0])
	b.VMOVDQU(counts[0].AsX(), op.Mem{Base: dst})
	b.ADDQ(op.U8(128), x)
	b.ADDQ(op.U8(16), dst)
	b.DECQ(n)
	b.JNE(op.LabelRef("loop"))
	b.Label("done")
	reportWild()
	b.VZEROUPPER()
	b.RET()
}

// encodeBits compares with one threshold.
func encodeBits() {
	b.TEXT("encodeBitsVec", attr.NOSPLIT, "func(dst []byte, x []float32, over *[16]float32) (wild bool)")
	b.Pragma("noescape")
	b.Doc("encodeBitsVec writes the codes of x, eight a byte, low bits first: 1 over the first of over. It reports what",
		"encodeBookVec does. len(x) is a multiple of 32.")
	dst, x, over, n := reg.RDI, reg.RSI, reg.RDX, reg.RCX
	b.Load(b.Param("dst").Base(), dst)
	b.Load(b.Param("x").Base(), x)
	b.Load(b.Param("x").Len(), n)
	b.Load(b.Param("over"), over)
	wildness()
	threshold := reg.Y15
	b.VBROADCASTSS(op.Mem{Base: over}, threshold)
	b.SHRQ(op.U8(5), n)
	b.JEQ(op.LabelRef("done"))
	b.Label("loop")
	for i := range 4 {
		v, t := []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3}[i], reg.Y4
		b.VMOVUPS(op.Mem{Base: x, Disp: 32 * i}, v)
		findWild(v, t)
		b.VCMPPS(op.U8(greater), threshold, v, v)
		b.VMOVMSKPS(v, reg.EAX)
		b.MOVB(reg.AL, op.Mem{Base: dst, Disp: i})
	}
	b.ADDQ(op.U8(128), x)
	b.ADDQ(op.U8(4), dst)
	b.DECQ(n)
	b.JNE(op.LabelRef("loop"))
	b.Label("done")
	reportWild()
	b.VZEROUPPER()
	b.RET()
}

// encodeLevels rounds to whole numbers, halves down. With t = ceil(v), exact, that is t unless t-v is a half or more, then t-1.
// The difference is exact but for v between 0 and 1/2, where it is more than a half and is rounded to no less.
func encodeLevels() {
	b.TEXT("encodeLevelsVec", attr.NOSPLIT, "func(dst []int8, x []float32)")
	b.Pragma("noescape")
	b.Doc("encodeLevelsVec writes the whole numbers from -127 to 127 nearest to x, the lower of equally near ones; -127 for NaN.",
		"len(x) is a multiple of 32.")
	dst, x, n := reg.RDI, reg.RSI, reg.RCX
	b.Load(b.Param("dst").Base(), dst)
	b.Load(b.Param("x").Base(), x)
	b.Load(b.Param("x").Len(), n)
	least, most, half := reg.Y15, reg.Y14, reg.Y13
	b.VMOVUPS(repeated("codeLeast", math.Float32bits(-127)), least)
	b.VMOVUPS(repeated("codeMost", math.Float32bits(127)), most)
	b.VMOVUPS(halves, half)
	b.VMOVDQU(orders, reg.Y12)
	ymm := []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3}
	b.SHRQ(op.U8(5), n)
	b.JEQ(op.LabelRef("done"))
	b.Label("loop")
	const up, notUnder = 2, 13 // rounding; greater or equal
	for i, v := range ymm {
		t := reg.Y4
		b.VMOVUPS(op.Mem{Base: x, Disp: 32 * i}, v)
		b.VMAXPS(least, v, v) // the second where one is NaN
		b.VMINPS(most, v, v)
		b.VROUNDPS(op.U8(up), v, t)
		b.VSUBPS(v, t, v)
		b.VCMPPS(op.U8(notUnder), half, v, v)
		b.VCVTPS2DQ(t, t)
		b.VPADDD(t, v, v)
	}
	b.VPACKSSDW(ymm[1], ymm[0], ymm[0])
	b.VPACKSSDW(ymm[3], ymm[2], ymm[2])
	b.VPACKSSWB(ymm[2], ymm[0], ymm[0])
	b.VPERMD(ymm[0], reg.Y12, ymm[0])
	b.VMOVDQU(ymm[0], op.Mem{Base: dst})
	b.ADDQ(op.U8(128), x)
	b.ADDQ(op.U8(32), dst)
	b.DECQ(n)
	b.JNE(op.LabelRef("loop"))
	b.Label("done")
	b.VZEROUPPER()
	b.RET()
}
