package main

import (
	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The look-up kernel multiplies nothing by a weight: the sums that two neighboring ternary weights can give are in a
// table for each pair of columns, made once a token, and VPSHUFB looks 32 rows up at a time. A sum is
// u = l0*a0 + l1*a1 + 254, of 0 to 508: nine bits, hence a table of low bytes and one of high bytes.
//
// A vector of codes is 32 rows by 4 columns, a byte of the source layout each: two indices. Byte 2i of it is row i for
// i < 16, byte 2i+1 is row 16+i. Low bytes are added as words, wrapping, and those of odd bytes apart; the difference
// gives the even ones. A block is at most 128 columns, 64 pairs: low bytes of one parity add up to 64*255 = 16,320, high
// bytes to 64, both together to 64*508 = 32,512, less than 65,536.
const shuffleBias = 254

var shuffle struct {
	all, odd, high, low4     reg.VecPhysical
	sums                     []reg.VecPhysical
	y, p, t, g, n, j, rows   reg.GPPhysical
	even, tableA, tableB, ix reg.VecPhysical
}

func shuffles() {
	s := &shuffle
	s.all, s.odd, s.high, s.low4 = reg.Y0, reg.Y1, reg.Y2, reg.Y3
	s.sums = ymm[4:8]
	s.even, s.tableA, s.tableB, s.ix = reg.Y8, reg.Y9, reg.Y10, reg.Y11
	s.y, s.p, s.t, s.g, s.n, s.j, s.rows = reg.RDI, reg.RAX, reg.RBX, reg.R8, reg.R9, reg.R10, reg.R11
	b.TEXT("shuffleRows", attr.NOSPLIT, "func(y []float32, w, tables []byte, act []float32, groups, per, steps int)")
	b.Pragma("noescape")
	b.Doc("shuffleRows is shuffleRowsRef: one token against len(y)/32 blocks of 32 rows.")
	bias := reg.R12
	b.Load(b.Param("y").Base(), s.y)
	b.Load(b.Param("y").Len(), s.rows)
	b.Load(b.Param("w").Base(), s.p)
	floats := b.AllocLocal(128)
	b.VMOVDQU(repeated(0x0f0f0f0f), s.low4)
	// 2*steps pairs in a block.
	b.Load(b.Param("steps"), bias)
	b.IMUL3Q(op.U32(2*shuffleBias), bias, bias)
	b.MOVQ(bias, reg.X15)
	b.VPBROADCASTD(reg.X15, reg.Y15)
	b.SHRQ(op.U8(5), s.rows)
	b.JEQ(op.LabelRef("done"))
	b.Label("row")
	b.Load(b.Param("tables").Base(), s.t)
	b.Load(b.Param("groups"), s.g)
	b.VPXOR(s.all, s.all, s.all)
	for i := range 4 {
		b.VMOVDQU(s.all, floats.Offset(32*i))
	}
	b.Label("group")
	for _, v := range s.sums {
		b.VPXOR(v, v, v)
	}
	b.Load(b.Param("per"), s.n)
	b.Label("block")
	for _, v := range []reg.VecPhysical{s.all, s.odd, s.high} {
		b.VPXOR(v, v, v)
	}
	b.Load(b.Param("steps"), s.j)
	b.Label("step")
	shuffleStep()
	b.ADDQ(op.U8(32), s.p)
	b.ADDQ(op.U8(64), s.t)
	b.DECQ(s.j)
	b.JNE(op.LabelRef("step"))
	shuffleWiden()
	b.DECQ(s.n)
	b.JNE(op.LabelRef("block"))
	for i, v := range s.sums {
		b.VCVTDQ2PS(v, v)
		b.VMOVUPS(at(s.p, 32*i), s.even)
		b.VFMADD213PS(floats.Offset(32*i), s.even, v)
		b.VMOVUPS(v, floats.Offset(32*i))
	}
	b.SUBQ(op.I8(-128), s.p)
	b.DECQ(s.g)
	b.JNE(op.LabelRef("group"))
	b.Load(b.Param("act").Base(), s.n)
	b.VBROADCASTSS(at(s.n, 0), s.even)
	for i := range 4 {
		b.VMULPS(floats.Offset(32*i), s.even, s.sums[i])
		b.VMOVUPS(s.sums[i], at(s.y, 32*i))
	}
	b.SUBQ(op.I8(-128), s.y)
	b.DECQ(s.rows)
	b.JNE(op.LabelRef("row"))
	b.Label("done")
	b.VZEROUPPER()
	b.RET()
	shuffleTables()
}

// shuffleStep looks up 4 columns of 32 rows.
func shuffleStep() {
	s := &shuffle
	b.VMOVDQU(at(s.p, 0), s.ix)
	for pair := range 2 {
		i := reg.Y12
		if pair == 0 {
			b.VPAND(s.ix, s.low4, i)
		} else {
			b.VPSRLW(op.U8(4), s.ix, s.ix)
			b.VPAND(s.ix, s.low4, i)
		}
		b.VBROADCASTI128(at(s.t, 32*pair), s.tableA)
		b.VBROADCASTI128(at(s.t, 32*pair+16), s.tableB)
		b.VPSHUFB(i, s.tableA, s.tableA)
		b.VPSHUFB(i, s.tableB, s.tableB)
		b.VPADDW(s.tableA, s.all, s.all)
		b.VPSRLW(op.U8(8), s.tableA, s.tableA)
		b.VPADDW(s.tableA, s.odd, s.odd)
		b.VPADDB(s.tableB, s.high, s.high)
	}
}

// shuffleWiden adds a block to the 32-bit sums, without the bias.
func shuffleWiden() {
	s := &shuffle
	b.VPSLLW(op.U8(8), s.odd, s.even)
	b.VPSUBW(s.even, s.all, s.even)
	b.VPSLLW(op.U8(8), s.high, s.tableA)
	b.VPADDW(s.tableA, s.even, s.even)
	b.VPSRLW(op.U8(8), s.high, s.high)
	b.VPSLLW(op.U8(8), s.high, s.high)
	b.VPADDW(s.high, s.odd, s.odd)
	for i, v := range []reg.VecPhysical{s.even, s.odd} {
		for h := range 2 {
			b.VEXTRACTI128(op.U8(h), v, reg.X12)
			b.VPMOVZXWD(reg.X12, reg.Y12)
			b.VPSUBD(reg.Y15, reg.Y12, reg.Y12)
			b.VPADDD(reg.Y12, s.sums[2*i+h], s.sums[2*i+h])
		}
	}
}

// shuffleTables makes 32 bytes of a pair of activations. VPMADDUBSW takes codes, level+1, and so gives a sum that is too
// large by a0+a1.
func shuffleTables() {
	b.TEXT("shuffleTables", attr.NOSPLIT, "func(tables []byte, q []int8)")
	b.Pragma("noescape")
	b.Doc("shuffleTables is shuffleTablesRef: 32 bytes for each two of q; len(tables) is 16*len(q).")
	d, q, n := reg.RDI, reg.RSI, reg.RCX
	b.Load(b.Param("tables").Base(), d)
	b.Load(b.Param("tables").Len(), n)
	b.Load(b.Param("q").Base(), q)
	codes := b.GLOBL("pairCodes", attr.RODATA|attr.NOPTR)
	for i := range 16 {
		b.DATA(2*i, op.U16(uint16(i&3|i>>2<<8)))
	}
	b.VMOVDQU(codes, reg.Y15)
	b.VMOVDQU(repeated(0x01010101), reg.Y14)
	b.VMOVDQU(repeated(shuffleBias|shuffleBias<<16), reg.Y13)
	b.VMOVDQU(repeated(0x00ff00ff), reg.Y12)
	b.SHRQ(op.U8(5), n)
	b.JEQ(op.LabelRef("done"))
	b.Label("next")
	b.VPBROADCASTW(at(q, 0), reg.Y0)
	b.VPMADDUBSW(reg.Y0, reg.Y15, reg.Y1)
	b.VPMADDUBSW(reg.Y0, reg.Y14, reg.Y0)
	b.VPSUBW(reg.Y0, reg.Y1, reg.Y1)
	b.VPADDW(reg.Y13, reg.Y1, reg.Y1)
	b.VPSRLW(op.U8(8), reg.Y1, reg.Y0)
	b.VPAND(reg.Y12, reg.Y1, reg.Y1)
	b.VPACKUSWB(reg.Y0, reg.Y1, reg.Y1)
	b.VPERMQ(op.U8(0xd8), reg.Y1, reg.Y1)
	b.VMOVDQU(reg.Y1, at(d, 0))
	b.ADDQ(op.U8(2), q)
	b.ADDQ(op.U8(32), d)
	b.DECQ(n)
	b.JNE(op.LabelRef("next"))
	b.Label("done")
	b.VZEROUPPER()
	b.RET()
}
