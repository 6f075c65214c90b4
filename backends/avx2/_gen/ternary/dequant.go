package main

import (
	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// dequant widens row-major codes, 16 at a time.
func dequant() {
	start("dequantVec", "func(dst []float32, codes []byte, scale float32)",
		"dequantVec sets dst[i] = float32(code[i]-1) * scale for two-bit codes, low bits first; len(dst) is a multiple of 16.")
	d, n, p := reg.RDI, reg.RCX, reg.RAX
	b.Load(b.Param("dst").Base(), d)
	b.Load(b.Param("dst").Len(), n)
	b.Load(b.Param("codes").Base(), p)
	scale, err := b.Param("scale").Resolve()
	if err != nil {
		panic(err)
	}
	b.VBROADCASTSS(scale.Addr, reg.Y15)
	shifts := b.GLOBL("shifts", attr.RODATA|attr.NOPTR)
	for i := range 16 {
		b.DATA(4*i, op.U32(uint32(2*i)))
	}
	b.VMOVDQU(shifts, reg.Y12)
	b.VMOVDQU(shifts.Offset(32), reg.Y13)
	b.VMOVDQU(repeated(3), reg.Y14)
	b.VMOVDQU(repeated(1), reg.Y11)
	b.SHRQ(op.U8(4), n)
	b.JEQ(op.LabelRef("done"))
	b.Label("sixteen")
	b.VPBROADCASTD(at(p, 0), reg.Y0)
	for h := range 2 {
		v := ymm[1+h]
		b.VPSRLVD(ymm[12+h], reg.Y0, v)
		b.VPAND(v, reg.Y14, v)
		b.VPSUBD(reg.Y11, v, v)
		b.VCVTDQ2PS(v, v)
		b.VMULPS(reg.Y15, v, v)
		b.VMOVUPS(v, at(d, 32*h))
	}
	b.ADDQ(op.U8(4), p)
	b.ADDQ(op.U8(64), d)
	b.DECQ(n)
	b.JNE(op.LabelRef("sixteen"))
	b.Label("done")
	finish()
}

// peak is the multiply-add limit that benchmarks quote: as many independent VPMADDUBSW and VPADDW as there are registers.
func peak() {
	start("MultiplyAddPeak", "func(iters int)",
		"MultiplyAddPeak runs iters rounds of 12 byte multiply-adds in registers, 768 multiplications and additions each, for benchmarks.")
	n := reg.RCX
	b.Load(b.Param("iters"), n)
	for i := range 16 {
		b.VPXOR(ymm[i], ymm[i], ymm[i])
	}
	b.Label("round")
	for i := range 12 {
		b.VPMADDUBSW(reg.Y12, reg.Y13, ymm[14+i%2])
		b.VPADDW(ymm[14+i%2], ymm[i], ymm[i])
	}
	b.DECQ(n)
	b.JNE(op.LabelRef("round"))
	finish()
}
