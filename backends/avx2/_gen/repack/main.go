// Command repack writes the assembly of package simd that lays codes out for the kernels that multiply them.
//
// Of ternary codes a block is 16 rows of 128 columns: 32 bytes a row, a vector. Each dword of it, 16 columns of a row, is put in the
// kernels' order by shifts and masks, eight dwords at once; then two transposes of 8x8 dwords bring those of eight rows
// together, step by step, as the block has them.
package main

import (
	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	b.ConstraintExpr("amd64,!purego")
	ternaryBlocks()
	for _, bits := range []int{1, 2, 4, 8} {
		bookLines(bits)
	}
	b.Generate()
}

// repeated is a 32-byte constant of equal dwords.
func repeated(name string, bits uint32) op.Mem {
	m := b.GLOBL(name, attr.RODATA|attr.NOPTR)
	for i := range 8 {
		b.DATA(4*i, op.U32(bits))
	}
	return m
}

var ymm = []reg.VecPhysical{
	reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
}

func ternaryBlocks() {
	b.TEXT("ternaryBlocks", attr.NOSPLIT, "func(dst []byte, stride int, codes []byte, ldc, blocks int)")
	b.Pragma("noescape")
	b.Doc("ternaryBlocks writes the codes of blocks of 16 rows and 128 columns, stride bytes apart in dst, from rows of codes",
		"that are ldc bytes apart. A code of 3 becomes 1. blocks is at least 1.")
	dst, codes, stride, ldc, blocks := reg.RDI, reg.RSI, reg.R8, reg.R9, reg.RCX
	b.Load(b.Param("dst").Base(), dst)
	b.Load(b.Param("codes").Base(), codes)
	b.Load(b.Param("stride"), stride)
	b.Load(b.Param("ldc"), ldc)
	b.Load(b.Param("blocks"), blocks)
	pairs := repeated("repackPairs", 0x55555555)
	first := repeated("repackFirst", 0x00cc00cc)
	second := repeated("repackSecond", 0x0000f0f0)

	b.Label("block")
	row := reg.RAX
	b.MOVQ(codes, row)
	for half := range 2 {
		for r := range 8 {
			x, t, u := ymm[r], reg.Y8, reg.Y9
			b.VMOVDQU(op.Mem{Base: row}, x)
			b.ADDQ(ldc, row)
			present(x, t, pairs)
			exchange(x, t, u, first, 6)
			exchange(x, t, u, second, 12)
		}
		transpose()
		for step := range 8 {
			b.VMOVDQU(ymm[8+step], op.Mem{Base: dst, Disp: 64*step + 32*half})
		}
	}
	b.ADDQ(op.U8(32), codes)
	b.ADDQ(stride, dst)
	b.DECQ(blocks)
	b.JNE(op.LabelRef("block"))
	b.VZEROUPPER()
	b.RET()
}

// present clears the upper bit of fields of 3.
func present(x, t reg.VecPhysical, pairs op.Mem) {
	b.VPSRLD(op.U8(1), x, t)
	b.VPAND(x, t, t)
	b.VPAND(pairs, t, t)
	b.VPADDD(t, t, t)
	b.VPANDN(x, t, x)
}

// exchange swaps the fields of mask with those n bits above them.
func exchange(x, t, u reg.VecPhysical, mask op.Mem, n uint8) {
	b.VPSRLD(op.U8(n), x, t)
	b.VPXOR(x, t, t)
	b.VPAND(mask, t, t)
	b.VPSLLD(op.U8(n), t, u)
	b.VPXOR(t, u, t)
	b.VPXOR(t, x, x)
}

// transpose leaves in Y8 to Y15 the columns of the 8x8 dwords whose rows are Y0 to Y7.
func transpose() {
	y := ymm
	for i := 0; i < 8; i += 2 { // pairs of rows: dwords 0 1 | 4 5, then 2 3 | 6 7
		b.VPUNPCKLDQ(y[i+1], y[i], y[8+i])
		b.VPUNPCKHDQ(y[i+1], y[i], y[9+i])
	}
	for i := 0; i < 8; i += 4 { // fours of rows: dwords 0 | 4, 1 | 5, 2 | 6, 3 | 7
		b.VPUNPCKLQDQ(y[10+i], y[8+i], y[i])
		b.VPUNPCKHQDQ(y[10+i], y[8+i], y[i+1])
		b.VPUNPCKLQDQ(y[11+i], y[9+i], y[i+2])
		b.VPUNPCKHQDQ(y[11+i], y[9+i], y[i+3])
	}
	for i := range 4 { // lower halves, then upper halves
		b.VPERM2I128(op.U8(0x20), y[4+i], y[i], y[8+i])
		b.VPERM2I128(op.U8(0x31), y[4+i], y[i], y[12+i])
	}
}
