package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// bookLines lays out codes of so many bits for the code-book kernels: four dwords of each of 16 rows at a time, 16 bytes a
// row. A vector has those of row r and of row r+4; a dword each of 16 rows is a line of the layout.
func bookLines(bits int) {
	name := fmt.Sprintf("bookLines%d", bits)
	b.TEXT(name, attr.NOSPLIT, "func(dst, codes []byte, ldc, fours int, nibbles *[16]byte)")
	b.Pragma("noescape")
	b.Doc(fmt.Sprintf("%s is bookLinesRef for codes of %d bits. fours is at least 1.", name, bits))
	dst, fours, ldc, ldc3 := reg.RDI, reg.RCX, reg.R8, reg.R9
	rows := []reg.Register{reg.RAX, reg.RBX, reg.RDX, reg.RSI} // rows 0, 4, 8 and 12
	b.Load(b.Param("dst").Base(), dst)
	b.Load(b.Param("codes").Base(), rows[0])
	b.Load(b.Param("ldc"), ldc)
	b.Load(b.Param("fours"), fours)
	b.LEAQ(op.Mem{Base: ldc, Index: ldc, Scale: 2}, ldc3)
	for i := 1; i < 4; i++ {
		b.LEAQ(op.Mem{Base: rows[i-1], Index: ldc, Scale: 4}, rows[i])
	}
	presentFrom(bits)
	b.Label("four")
	for half := range 2 {
		for r := range 4 {
			b.VMOVDQU(rowAt(rows[2*half], ldc, ldc3, r), ymm[r].AsX())
			b.VINSERTI128(op.U8(1), rowAt(rows[2*half+1], ldc, ldc3, r), ymm[r], ymm[r])
			presentCodes(bits, ymm[r])
			for _, s := range swaps[bits] {
				mask, n := s.mask(bits)
				exchange(ymm[r], reg.Y8, reg.Y9, constant(mask), n)
			}
		}
		transposeFour()
		for line := range 4 {
			b.VMOVDQU(ymm[line], op.Mem{Base: dst, Disp: 64*line + 32*half})
		}
	}
	for _, r := range rows {
		b.ADDQ(op.U8(16), r)
	}
	b.ADDQ(op.U32(256), dst)
	b.DECQ(fours)
	b.JNE(op.LabelRef("four"))
	b.VZEROUPPER()
	b.RET()
}

// rowAt addresses row r of the four at base.
func rowAt(base, ldc, ldc3 reg.Register, r int) op.Mem {
	switch r {
	case 0:
		return op.Mem{Base: base}
	case 3:
		return op.Mem{Base: base, Index: ldc3, Scale: 1}
	}
	return op.Mem{Base: base, Index: ldc, Scale: uint8(r)}
}

var constants = map[uint32]op.Mem{}

// constant is a 32-byte constant of equal dwords.
func constant(bits uint32) op.Mem {
	if _, ok := constants[bits]; !ok {
		constants[bits] = repeated(fmt.Sprintf("repack%08x", bits), bits)
	}
	return constants[bits]
}

// presentFrom loads what replaces codes that stand for nothing: by nibble, since no code is in two, or of bytes -128.
func presentFrom(bits int) {
	if bits == 8 {
		b.VMOVDQU(constant(0x80808080), reg.Y15)
		return
	}
	b.Load(b.Param("nibbles"), reg.R10)
	b.VBROADCASTI128(op.Mem{Base: reg.R10}, reg.Y15)
	b.VMOVDQU(constant(0x0f0f0f0f), reg.Y14)
}

// presentCodes replaces codes that stand for nothing.
func presentCodes(bits int, x reg.VecPhysical) {
	t := reg.Y8
	if bits == 8 {
		b.VPCMPEQB(reg.Y15, x, t)
		b.VPANDN(x, t, x)
		return
	}
	b.VPSRLD(op.U8(4), x, t)
	b.VPAND(reg.Y14, t, t)
	b.VPAND(reg.Y14, x, x)
	b.VPSHUFB(t, reg.Y15, t)
	b.VPSHUFB(x, reg.Y15, x)
	b.VPSLLD(op.U8(4), t, t)
	b.VPOR(t, x, x)
}

// swap exchanges two bits, hi > lo, of the numbers of a dword's codes.
type swap struct{ hi, lo int }

// swaps turn the number of a code, 4f+b, into that of its place, field f of byte b: they bring the lowest two bits to the
// top.
var swaps = map[int][]swap{
	1: {{4, 1}, {3, 0}, {2, 1}, {1, 0}},
	2: {{3, 1}, {2, 0}},
	4: {{2, 1}, {1, 0}},
}

// mask has the codes that move up, by n bits.
func (s swap) mask(bits int) (mask uint32, n uint8) {
	for i := range 32 {
		if code := i / bits; code>>s.hi&1 == 0 && code>>s.lo&1 == 1 {
			mask |= 1 << i
		}
	}
	return mask, uint8(bits * (1<<s.hi - 1<<s.lo))
}

// transposeFour transposes the 4x4 dwords that each half of Y0 to Y3 has.
func transposeFour() {
	y := ymm
	b.VPUNPCKLDQ(y[1], y[0], y[4]) // dwords 0 and 1 of rows 0 and 1
	b.VPUNPCKHDQ(y[1], y[0], y[5])
	b.VPUNPCKLDQ(y[3], y[2], y[6])
	b.VPUNPCKHDQ(y[3], y[2], y[7])
	for i := range 2 {
		b.VPUNPCKLQDQ(y[6+i], y[4+i], y[2*i])
		b.VPUNPCKHQDQ(y[6+i], y[4+i], y[2*i+1])
	}
}
