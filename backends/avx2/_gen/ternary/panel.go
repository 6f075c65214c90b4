package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// unpack turns blocks of codes into bytes: 64 bytes (16 rows by 4 columns) for each 4 columns, in column order.
func unpack() {
	start("unpackBlocks", "func(dst, w []byte, blocks, steps int)", "unpackBlocks is unpackBlocksRef.")
	d, p, n, steps, j := reg.RDI, reg.RAX, reg.RCX, reg.RDX, reg.RBX
	b.Load(b.Param("dst").Base(), d)
	b.Load(b.Param("w").Base(), p)
	b.Load(b.Param("blocks"), n)
	b.Load(b.Param("steps"), steps)
	b.VMOVDQU(repeated(lowField), reg.Y15)
	b.Label("block")
	b.MOVQ(steps, j)
	b.Label("step")
	for h := range 2 {
		v := ymm[4*h]
		b.VMOVDQU(at(p, 32*h), v)
		for f := 1; f < 4; f++ {
			b.VPSRLW(op.U8(uint8(2*f)), v, ymm[4*h+f])
		}
		for f := range 4 {
			b.VPAND(ymm[4*h+f], reg.Y15, ymm[4*h+f])
			b.VMOVDQU(ymm[4*h+f], at(d, 64*f+32*h))
		}
	}
	b.ADDQ(op.U8(64), p)
	b.ADDQ(op.U32(256), d)
	b.DECQ(j)
	b.JNE(op.LabelRef("step"))
	b.ADDQ(op.U8(64), p)
	b.DECQ(n)
	b.JNE(op.LabelRef("block"))
	finish()
}

// panel multiplies nt tokens by 16 unpacked rows. It adds scaled blocks to the float tile c, or, long, their integers to
// an int32 tile, which fold scales at the end of a group.
func panel(nt int, long bool) {
	name, tile := fmt.Sprintf("panel%d", nt), "c []float32"
	if long {
		name, tile = name+"Long", "c []int32"
	}
	start(name, "func("+tile+", panel []byte, q []int8, ldQ int, offsets []int32, ldO int, w []byte, blocks, steps int)",
		fmt.Sprintf("%s is %s for %d tokens.", name, map[bool]string{false: "panelRef", true: "panelLongRef"}[long], nt))
	p, q, o, s, c, n, j, steps := reg.RAX, reg.RBX, reg.RCX, reg.RDX, reg.RDI, reg.RSI, reg.R8, reg.R9
	ldQ := [3]reg.Register{reg.R10, reg.R11, reg.R15}
	ldO := [3]reg.Register{reg.R12, reg.R13, reg.R14}
	b.Load(b.Param("c").Base(), c)
	b.Load(b.Param("panel").Base(), p)
	b.Load(b.Param("q").Base(), q)
	b.Load(b.Param("offsets").Base(), o)
	b.Load(b.Param("w").Base(), s)
	b.Load(b.Param("ldQ"), ldQ[0])
	b.Load(b.Param("ldO"), ldO[0])
	b.SHLQ(op.U8(2), ldO[0])
	multiples(ldQ, nt)
	multiples(ldO, nt)
	b.Load(b.Param("blocks"), n)
	b.Load(b.Param("steps"), steps)
	b.Label("block")
	for t := range nt {
		b.VPBROADCASTD(strided(o, ldO, t, 0), ymm[2*t])
		b.VMOVDQA(ymm[2*t], ymm[2*t+1])
	}
	b.MOVQ(steps, j)
	b.Label("step")
	for f := range 4 {
		b.VMOVDQU(at(p, 64*f), reg.Y12)
		b.VMOVDQU(at(p, 64*f+32), reg.Y13)
		for t := range nt {
			b.VPBROADCASTD(strided(q, ldQ, t, 4*f), reg.Y14)
			b.VPMADDUBSW(reg.Y14, reg.Y12, reg.Y15)
			b.VPMADDUBSW(reg.Y14, reg.Y13, reg.Y14)
			b.VPADDW(reg.Y15, ymm[2*t], ymm[2*t])
			b.VPADDW(reg.Y14, ymm[2*t+1], ymm[2*t+1])
		}
	}
	b.ADDQ(op.U32(256), p)
	b.ADDQ(op.U8(16), q)
	b.ADDQ(op.U8(64), s)
	b.DECQ(j)
	b.JNE(op.LabelRef("step"))
	if !long {
		b.VMOVUPS(at(s, 0), reg.Y12)
		b.VMOVUPS(at(s, 32), reg.Y13)
	}
	for i := range 2 * nt {
		b.VPMADDWD(ones(), ymm[i], ymm[i])
	}
	for i := range 2 * nt {
		if long {
			b.VPADDD(at(c, 32*i), ymm[i], ymm[i])
		} else {
			b.VCVTDQ2PS(ymm[i], ymm[i])
			b.VFMADD213PS(at(c, 32*i), ymm[12+i%2], ymm[i])
		}
		b.VMOVUPS(ymm[i], at(c, 32*i))
	}
	b.ADDQ(op.U8(64), s)
	b.ADDQ(op.U8(4), o)
	b.DECQ(n)
	b.JNE(op.LabelRef("block"))
	finish()
}

// fold ends a group of several blocks.
func fold() {
	start("foldTile", "func(c []float32, sums []int32, scales []byte)",
		"foldTile is foldTileRef: c = fma(float32(sums), scale of the row, c); sums = 0; len(c) is a multiple of 16.")
	c, s, n, w := reg.RDI, reg.RSI, reg.RCX, reg.RAX
	b.Load(b.Param("c").Base(), c)
	b.Load(b.Param("c").Len(), n)
	b.Load(b.Param("sums").Base(), s)
	b.Load(b.Param("scales").Base(), w)
	b.VMOVUPS(at(w, 0), reg.Y2)
	b.VMOVUPS(at(w, 32), reg.Y3)
	b.VPXOR(reg.Y4, reg.Y4, reg.Y4)
	b.SHRQ(op.U8(4), n)
	b.JEQ(op.LabelRef("done"))
	b.Label("token")
	for h := range 2 {
		b.VCVTDQ2PS(at(s, 32*h), ymm[h])
		b.VFMADD213PS(at(c, 32*h), ymm[2+h], ymm[h])
		b.VMOVUPS(ymm[h], at(c, 32*h))
		b.VMOVDQU(reg.Y4, at(s, 32*h))
	}
	b.ADDQ(op.U8(64), c)
	b.ADDQ(op.U8(64), s)
	b.DECQ(n)
	b.JNE(op.LabelRef("token"))
	b.Label("done")
	finish()
}

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
