package main

import (
	"fmt"

	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var ymm = []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}

// tokens multiplies nt tokens by 8*halves rows at a time, any block width. Accumulators fill Y0-Y7 at most: 2i for the
// low fields and 2i+1 for the high ones of pair i = token*halves + half. Float sums, and the 32-bit sums of long, are on
// the stack: they are touched once a block.
func tokens(nt, halves int, long bool) {
	name := fmt.Sprintf("tokens%d", nt)
	if long {
		name += "Long"
	}
	start(name, "func(y []float32, ldY int, w []byte, q []int8, ldQ int, offsets []int32, ldO int, act []float32, rowBlocks, groups, per, steps int)",
		fmt.Sprintf("%s is tokenBlocksRef for %d tokens.", name, nt))
	pairs := nt * halves
	floats := b.AllocLocal(32 * pairs)
	var ints op.Mem
	if long {
		ints = b.AllocLocal(32 * pairs)
	}
	y, p, q, o := reg.RDI, reg.RAX, reg.RBX, reg.RCX
	g, n, j, rows := reg.RDX, reg.RSI, reg.R8, reg.R9
	ldQ := [2]reg.Register{reg.R10, reg.R11}
	ldO := [2]reg.Register{reg.R12, reg.R13}
	tmp := reg.R14
	b.Load(b.Param("y").Base(), y)
	b.Load(b.Param("w").Base(), p)
	b.Load(b.Param("ldQ"), reg.R10)
	b.Load(b.Param("ldO"), reg.R12)
	b.SHLQ(op.U8(2), reg.R12)
	triple(ldQ, nt)
	triple(ldO, nt)
	b.Load(b.Param("rowBlocks"), rows)
	if halves == 1 {
		b.ADDQ(rows, rows) // passes: half 0 and half 1 of each row block
	}
	b.TESTQ(rows, rows)
	b.JEQ(op.LabelRef("done"))
	b.VMOVDQU(repeated(lowField), reg.Y15)
	b.VMOVDQU(repeated(highField), reg.Y14)
	b.Label("row")
	b.Load(b.Param("q").Base(), q)
	b.Load(b.Param("offsets").Base(), o)
	b.Load(b.Param("groups"), g)
	b.VXORPS(reg.Y0, reg.Y0, reg.Y0)
	for i := range pairs {
		b.VMOVUPS(reg.Y0, floats.Offset(32*i))
		if long {
			b.VMOVUPS(reg.Y0, ints.Offset(32*i))
		}
	}
	b.Label("group")
	if long {
		b.Load(b.Param("per"), n)
		b.Label("block")
	}
	for t := range nt {
		for h := range halves {
			i := t*halves + h
			b.VPBROADCASTD(strided(o, ldO, t, 0), ymm[2*i])
			b.VPXOR(ymm[2*i+1], ymm[2*i+1], ymm[2*i+1])
		}
	}
	b.Load(b.Param("steps"), j)
	b.Label("step")
	tokenStep(p, q, ldQ, nt, halves)
	b.ADDQ(op.U8(64), p)
	b.ADDQ(op.U8(16), q)
	b.DECQ(j)
	b.JNE(op.LabelRef("step"))
	for i := range pairs {
		b.VPSRAW(op.U8(2), ymm[2*i+1], ymm[2*i+1])
		b.VPADDW(ymm[2*i+1], ymm[2*i], ymm[2*i])
		b.VPMADDWD(ones(), ymm[2*i], ymm[2*i])
		if long {
			b.VPADDD(ints.Offset(32*i), ymm[2*i], ymm[2*i])
		}
	}
	b.ADDQ(op.U8(64), p)
	b.ADDQ(op.U8(4), o)
	if long {
		b.DECQ(n)
		b.JEQ(op.LabelRef("scale"))
		for i := range pairs {
			b.VMOVUPS(ymm[2*i], ints.Offset(32*i))
		}
		b.JMP(op.LabelRef("block"))
		b.Label("scale")
		b.VXORPS(reg.Y12, reg.Y12, reg.Y12)
	}
	for h := range halves {
		b.VMOVUPS(at(p, -64+32*h), ymm[8+h])
	}
	for i := range pairs {
		b.VCVTDQ2PS(ymm[2*i], ymm[2*i])
		b.VFMADD213PS(floats.Offset(32*i), ymm[8+i%halves], ymm[2*i])
		b.VMOVUPS(ymm[2*i], floats.Offset(32*i))
		if long {
			b.VMOVUPS(reg.Y12, ints.Offset(32*i))
		}
	}
	b.DECQ(g)
	b.JNE(op.LabelRef("group"))
	tokenStore(y, tmp, nt, halves)
	tokenNextRow(y, p, rows, halves)
	b.Label("done")
	finish()
}

func tokenStep(p, q reg.Register, ldQ [2]reg.Register, nt, halves int) {
	code, field := ymm[8:10], ymm[10:12]
	b.PREFETCHT0(at(p, ahead)) // a few tokens are over before memory answers
	for h := range halves {
		b.VMOVDQU(at(p, 32*h), code[h])
	}
	for f := range 4 {
		mask := reg.Y15
		if f%2 == 1 {
			mask = reg.Y14
		}
		for h := range halves {
			if f == 2 {
				b.VPSRLW(op.U8(4), code[h], code[h])
			}
			b.VPAND(code[h], mask, field[h])
		}
		for t := range nt {
			b.VPBROADCASTD(strided(q, ldQ, t, 4*f), reg.Y12)
			for h := range halves {
				acc := ymm[2*(t*halves+h)+f%2]
				b.VPMADDUBSW(reg.Y12, field[h], reg.Y13)
				b.VPADDW(reg.Y13, acc, acc)
			}
		}
	}
}

// tokenStore scales the sums, which are still in the even registers, and stores them.
func tokenStore(y, act reg.Register, nt, halves int) {
	ld := [2]reg.Register{reg.R8, reg.RDX}
	b.Load(b.Param("act").Base(), act)
	b.Load(b.Param("ldY"), ld[0])
	b.SHLQ(op.U8(2), ld[0])
	triple(ld, nt)
	for t := range nt {
		b.VBROADCASTSS(at(act, 4*t), reg.Y12)
		for h := range halves {
			b.VMULPS(reg.Y12, ymm[2*(t*halves+h)], reg.Y13)
			b.VMOVUPS(reg.Y13, strided(y, ld, t, 32*h))
		}
	}
}

// tokenNextRow moves on. With one half a pass, p stands at the end of the row block; the first half goes back to the
// block's start plus 32, the second to its true end.
func tokenNextRow(y, p, rows reg.Register, halves int) {
	if halves == 2 {
		b.ADDQ(op.U8(64), y)
		b.DECQ(rows)
		b.JNE(op.LabelRef("row"))
		return
	}
	b.ADDQ(op.U8(32), y)
	b.SUBQ(op.U8(32), p)
	b.DECQ(rows)
	b.JEQ(op.LabelRef("done"))
	b.TESTQ(op.U32(1), rows)
	b.JEQ(op.LabelRef("row"))
	// Bytes of a row block: groups * per * (64*steps + 64).
	size, t := reg.RDX, reg.RSI
	b.Load(b.Param("steps"), size)
	b.INCQ(size)
	b.SHLQ(op.U8(6), size)
	b.Load(b.Param("per"), t)
	b.IMULQ(t, size)
	b.Load(b.Param("groups"), t)
	b.IMULQ(t, size)
	b.SUBQ(size, p)
	b.ADDQ(op.U8(64), p)
	b.JMP(op.LabelRef("row"))
}
