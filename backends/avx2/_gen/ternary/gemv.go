package main

import (
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gemv128 is one token against blocks of 128 columns, fully unrolled: 13 instructions for each pair of code vectors and
// field pair. long sums several blocks of a group in 32 bits before scaling.
func gemv128(long, prefetch bool) {
	name := "gemv128"
	if long {
		name += "Long"
	}
	if prefetch {
		name += "Prefetch"
	}
	doc := []string{
		name + " is tokenBlocksRef for one token and blocks of 128 columns, 16 rows at a time.",
		"It covers len(y)/16 row blocks.",
	}
	if prefetch {
		doc = append(doc, "It prefetches codes, for matrices beyond the second-level cache.")
	}
	start(name, "func(y []float32, w []byte, q []int8, offsets []int32, act []float32, groups, per int)", doc...)
	y, rows, p, q0, o0 := reg.RDI, reg.RSI, reg.RAX, reg.R8, reg.R9
	q, o, g, groups, n, per := reg.RBX, reg.RCX, reg.RDX, reg.R10, reg.R12, reg.R11
	b.Load(b.Param("y").Base(), y)
	b.Load(b.Param("y").Len(), rows)
	b.Load(b.Param("w").Base(), p)
	b.Load(b.Param("q").Base(), q0)
	b.Load(b.Param("offsets").Base(), o0)
	b.Load(b.Param("groups"), groups)
	b.Load(b.Param("per"), per)
	act := reg.R13
	b.Load(b.Param("act").Base(), act)
	var sums op.Mem
	if long {
		sums = b.AllocLocal(64)
	}
	b.SHRQ(op.U8(4), rows)
	b.JEQ(op.LabelRef("done"))
	b.VMOVDQU(repeated(lowField), reg.Y15)
	b.VMOVDQU(repeated(highField), reg.Y14)
	b.Label("row")
	b.MOVQ(q0, q)
	b.MOVQ(o0, o)
	b.MOVQ(groups, g)
	b.VXORPS(reg.Y4, reg.Y4, reg.Y4)
	b.VXORPS(reg.Y5, reg.Y5, reg.Y5)
	if long {
		b.VMOVUPS(reg.Y4, sums)
		b.VMOVUPS(reg.Y4, sums.Offset(32))
	}
	b.Label("group")
	if long {
		b.MOVQ(per, n)
		b.VPXOR(reg.Y4, reg.Y4, reg.Y4)
		b.VPXOR(reg.Y5, reg.Y5, reg.Y5)
		b.Label("block")
	}
	b.VPBROADCASTD(at(o, 0), reg.Y0)
	b.VMOVDQA(reg.Y0, reg.Y2)
	b.VPXOR(reg.Y1, reg.Y1, reg.Y1)
	b.VPXOR(reg.Y3, reg.Y3, reg.Y3)
	for j := range 8 {
		if prefetch {
			b.PREFETCHT0(at(p, ahead+64*j))
		}
		gemvStep(p, q, 64*j, 16*j)
	}
	if prefetch {
		b.PREFETCHT0(at(p, ahead+512))
	}
	b.VPSRAW(op.U8(2), reg.Y1, reg.Y1)
	b.VPSRAW(op.U8(2), reg.Y3, reg.Y3)
	b.VPADDW(reg.Y1, reg.Y0, reg.Y0)
	b.VPADDW(reg.Y3, reg.Y2, reg.Y2)
	b.VPMADDWD(ones(), reg.Y0, reg.Y0)
	b.VPMADDWD(ones(), reg.Y2, reg.Y2)
	scale := at(p, 512)
	if long {
		b.VPADDD(reg.Y0, reg.Y4, reg.Y4)
		b.VPADDD(reg.Y2, reg.Y5, reg.Y5)
		b.ADDQ(op.U32(576), p)
		b.ADDQ(op.U32(128), q)
		b.ADDQ(op.U8(4), o)
		b.DECQ(n)
		b.JNE(op.LabelRef("block"))
		b.VCVTDQ2PS(reg.Y4, reg.Y0)
		b.VCVTDQ2PS(reg.Y5, reg.Y2)
		b.VMOVUPS(sums, reg.Y4)
		b.VMOVUPS(sums.Offset(32), reg.Y5)
		scale = at(p, -64)
	} else {
		b.VCVTDQ2PS(reg.Y0, reg.Y0)
		b.VCVTDQ2PS(reg.Y2, reg.Y2)
	}
	b.VFMADD231PS(scale, reg.Y0, reg.Y4)
	b.VFMADD231PS(scale.Offset(32), reg.Y2, reg.Y5)
	if long {
		b.VMOVUPS(reg.Y4, sums)
		b.VMOVUPS(reg.Y5, sums.Offset(32))
	} else {
		b.ADDQ(op.U32(576), p)
		b.ADDQ(op.U32(128), q)
		b.ADDQ(op.U8(4), o)
	}
	b.DECQ(g)
	b.JNE(op.LabelRef("group"))
	b.VBROADCASTSS(at(act, 0), reg.Y0)
	b.VMULPS(reg.Y0, reg.Y4, reg.Y4)
	b.VMULPS(reg.Y0, reg.Y5, reg.Y5)
	b.VMOVUPS(reg.Y4, at(y, 0))
	b.VMOVUPS(reg.Y5, at(y, 32))
	b.ADDQ(op.U8(64), y)
	b.DECQ(rows)
	b.JNE(op.LabelRef("row"))
	b.Label("done")
	finish()
}

// ahead is how many bytes before their use codes are fetched: what memory gives in about 0.25 us, twice its latency.
const ahead = 8192

// gemvStep adds 16 columns of 16 rows to Y0, Y1 (rows 0-7, low and high fields) and Y2, Y3 (rows 8-15).
func gemvStep(p, q reg.Register, code, column int) {
	low, high := reg.Y15, reg.Y14
	b.VMOVDQU(at(p, code), reg.Y6)
	b.VMOVDQU(at(p, code+32), reg.Y8)
	b.VPBROADCASTD(at(q, column), reg.Y10)
	b.VPBROADCASTD(at(q, column+4), reg.Y11)
	b.VPSRLW(op.U8(4), reg.Y6, reg.Y7)
	b.VPSRLW(op.U8(4), reg.Y8, reg.Y9)
	for field := range 2 {
		v, u := reg.Y6, reg.Y8
		if field == 1 {
			v, u = reg.Y7, reg.Y9
			b.VPBROADCASTD(at(q, column+8), reg.Y10)
			b.VPBROADCASTD(at(q, column+12), reg.Y11)
		}
		b.VPAND(v, low, reg.Y12)
		b.VPAND(u, low, reg.Y13)
		b.VPAND(v, high, v)
		b.VPAND(u, high, u)
		b.VPMADDUBSW(reg.Y10, reg.Y12, reg.Y12)
		b.VPMADDUBSW(reg.Y10, reg.Y13, reg.Y13)
		b.VPMADDUBSW(reg.Y11, v, v)
		b.VPMADDUBSW(reg.Y11, u, u)
		b.VPADDW(reg.Y12, reg.Y0, reg.Y0)
		b.VPADDW(reg.Y13, reg.Y2, reg.Y2)
		b.VPADDW(v, reg.Y1, reg.Y1)
		b.VPADDW(u, reg.Y3, reg.Y3)
	}
}
