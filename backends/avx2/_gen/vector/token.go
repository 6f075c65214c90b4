package main

import (
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/mmcloughlin/avo/attr"
)

// quantizeToken is QuantizeRow and blockOffsetsVec for blocks of 128 columns in one routine. The quotient x/scale is
// correctly rounded without a division: inv = 1/scale is, and after one correction the estimate x*inv is within one unit
// in the last place, so a second gives the rounded quotient (P. Markstein, "Computation of elementary functions on the
// IBM RISC System/6000", 1990, theorem 5). scale lies between 1e-8/127 and about MaxFloat32/127, so that nothing overflows, and
// a remainder can underflow only where the quotient rounds to zero anyway.
func quantizeToken() {
	b.TEXT("quantizeTokenVec", attr.NOSPLIT, "func(q []int8, offsets []int32, x []float32) float32")
	b.Pragma("noescape")
	document("quantizeTokenVec is quantizeTokenRef; len(x) is a positive multiple of 128.\nIt returns 0, having done nothing, if an element is infinite or NaN.")
	q, o, x := base("q"), base("offsets"), base("x")
	n := b.Load(b.Param("x").Len(), b.GP64()).(reg.GPVirtual)
	largest := absMaxOf(x, n)
	bits := b.GP32()
	b.VMOVD(largest, bits)
	b.CMPL(bits, op.U32(posInf))
	b.JHS(op.LabelRef("refuse"))
	scale, inv := b.YMM(), b.YMM()
	b.VMAXSS(float(1e-8), largest, largest)
	b.VMULSS(float(1.0/127), largest, scale.AsX())
	b.Store(scale.AsX(), b.ReturnIndex(0))
	b.VMOVSS(float(1), inv.AsX())
	b.VDIVSS(scale.AsX(), inv.AsX(), inv.AsX())
	b.VBROADCASTSS(scale.AsX(), scale)
	b.VBROADCASTSS(inv.AsX(), inv)
	order, ones := b.YMM(), b.YMM()
	b.VMOVDQU(packOrder(), order)
	b.VMOVDQU(repeated(0x01010101), ones)
	b.SHRQ(op.U8(7), n)
	b.Label("block")
	sum := b.YMM()
	for part := range 4 {
		bytes := quotients(x, 128*part, scale, inv, order)
		b.VMOVDQU(bytes, op.Mem{Base: q, Disp: 32 * part})
		if part == 0 {
			b.VPMADDUBSW(bytes, ones, sum)
			continue
		}
		b.VPMADDUBSW(bytes, ones, bytes)
		b.VPADDW(bytes, sum, sum)
	}
	b.VPMADDWD(repeated(0x00010001), sum, sum)
	half, low := b.XMM(), sum.AsX()
	b.VEXTRACTI128(op.U8(1), sum, half)
	b.VPADDD(half, low, low)
	b.VPSHUFD(op.U8(0x4e), low, half)
	b.VPADDD(half, low, low)
	b.VPSHUFD(op.U8(0xb1), low, half)
	b.VPADDD(half, low, low)
	total := b.GP32()
	b.VMOVD(low, total)
	b.NEGL(total)
	b.MOVWLZX(total.As16(), total)
	b.MOVL(total, op.Mem{Base: o})
	b.ADDQ(op.U32(512), x)
	b.ADDQ(op.U32(128), q)
	b.ADDQ(op.U8(4), o)
	b.DECQ(n)
	b.JNE(op.LabelRef("block"))
	b.VZEROUPPER()
	b.RET()
	b.Label("refuse")
	zero := b.XMM()
	b.VXORPS(zero, zero, zero)
	b.Store(zero, b.ReturnIndex(0))
	b.VZEROUPPER()
	b.RET()
}

// absMaxOf returns the largest absolute value of x in an XMM register; as integers, absolute values order as floats do.
func absMaxOf(x, n reg.GPVirtual) reg.VecVirtual {
	acc := make([]vec, 4)
	for i := range acc {
		acc[i] = b.YMM()
		b.VPXOR(acc[i], acc[i], acc[i])
	}
	mask := b.YMM()
	b.VMOVDQU(repeated(absBits), mask)
	i := b.GP64()
	b.XORQ(i, i)
	b.Label("largest")
	for j := range 8 {
		v := b.YMM()
		b.VPAND(op.Mem{Base: x, Index: i, Scale: 4, Disp: 32 * j}, mask, v)
		b.VPMAXUD(v, acc[j%4], acc[j%4])
	}
	b.ADDQ(op.U8(64), i)
	b.CMPQ(i, n)
	b.JLT(op.LabelRef("largest"))
	b.VPMAXUD(acc[1], acc[0], acc[0])
	b.VPMAXUD(acc[3], acc[2], acc[2])
	b.VPMAXUD(acc[2], acc[0], acc[0])
	half, low := b.XMM(), acc[0].AsX()
	b.VEXTRACTI128(op.U8(1), acc[0], half)
	b.VPMAXUD(half, low, low)
	b.VPSHUFD(op.U8(0x4e), low, half)
	b.VPMAXUD(half, low, low)
	b.VPSHUFD(op.U8(0xb1), low, half)
	out := b.XMM()
	b.VPMAXUD(half, low, out)
	return out
}

// quotients converts 32 floats to bytes.
func quotients(x reg.GPVirtual, disp int, scale, inv, order vec) vec {
	var v [4]vec
	for j := range v {
		t, r := b.YMM(), b.YMM()
		v[j] = b.YMM()
		b.VMOVUPS(op.Mem{Base: x, Disp: disp + 32*j}, t)
		b.VMULPS(inv, t, v[j])
		for range 2 {
			b.VMOVAPS(t, r)
			b.VFNMADD231PS(scale, v[j], r)
			b.VFMADD231PS(inv, r, v[j])
		}
		b.VCVTPS2DQ(v[j], v[j])
	}
	b.VPACKSSDW(v[1], v[0], v[0])
	b.VPACKSSDW(v[3], v[2], v[2])
	b.VPACKSSWB(v[2], v[0], v[0])
	b.VPERMD(v[0], order, v[0])
	return v[0]
}
