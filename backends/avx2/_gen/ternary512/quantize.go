package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var constants = map[uint32]op.Mem{}

// constant returns a dword of memory.
func constant(bits uint32) op.Mem {
	if m, ok := constants[bits]; ok {
		return m
	}
	m := b.GLOBL(fmt.Sprintf("q%08x", bits), attr.RODATA|attr.NOPTR)
	b.DATA(0, op.U32(bits))
	constants[bits] = m
	return m
}

func float(f float64) op.Mem { return constant(math.Float32bits(float32(f))) }

// packOrder is the permutation of dwords that undoes the lanes of VPACKSSDW and VPACKSSWB.
func packOrder() op.Mem {
	m := b.GLOBL("qorder", attr.RODATA|attr.NOPTR)
	for i := range 16 {
		b.DATA(4*i, op.U32(uint32(i%4*4+i/4)))
	}
	return m
}

// quantize is quantizeTokenVec of command vector, which says why its quotients are those of a division, in registers of 512 bits. The
// quotients are the same to the bit, as each element is computed by the same instructions; maxima and sums of integers do not
// depend on their order.
func quantize() {
	start("quantizeToken512", "func(q []int8, offsets []int32, x []float32) float32", attr.NOSPLIT,
		"quantizeToken512 is quantizeTokenRef, but offsets are int32; len(x) is a positive multiple of 128.", "It returns 0, having done nothing, if an element is infinite or NaN.")
	q, o, x, n, i := reg.RDI, reg.RCX, reg.RSI, reg.RDX, reg.RAX
	b.Load(b.Param("q").Base(), q)
	b.Load(b.Param("offsets").Base(), o)
	b.Load(b.Param("x").Base(), x)
	b.Load(b.Param("x").Len(), n)
	largest(x, n, i)
	const posInf = 0x7f800000
	b.VMOVD(reg.X0, reg.EAX)
	b.CMPL(reg.EAX, op.U32(posInf))
	b.JHS(op.LabelRef("refuse"))
	scale, inv, order, ones := reg.Z31, reg.Z30, reg.Z29, reg.Z28
	b.VMAXSS(float(1e-8), reg.X0, reg.X0)
	b.VMULSS(float(1.0/127), reg.X0, reg.X0)
	b.Store(reg.X0, b.ReturnIndex(0))
	b.VMOVSS(float(1), reg.X1)
	b.VDIVSS(reg.X0, reg.X1, reg.X1)
	b.VBROADCASTSS(reg.X0, scale)
	b.VBROADCASTSS(reg.X1, inv)
	b.VMOVDQU32(packOrder(), order)
	b.VPBROADCASTD(constant(0x01010101), ones)
	b.Label("block")
	for half := range 2 {
		bytes := quotients(x, 256*half, scale, inv, order)
		b.VMOVDQU64(bytes, at(q, 64*half))
		if half == 0 {
			b.VPXORD(reg.Z16, reg.Z16, reg.Z16)
		}
		b.VPDPBUSD(bytes, ones, reg.Z16)
	}
	b.VEXTRACTI64X4(op.U8(1), reg.Z16, reg.Y0)
	b.VPADDD(reg.Y16, reg.Y0, reg.Y0)
	fold(func(from, to reg.VecPhysical) { b.VPADDD(from, to, to) })
	b.VPXOR(reg.X1, reg.X1, reg.X1)
	b.VPSUBD(reg.X0, reg.X1, reg.X0)
	b.VMOVD(reg.X0, at(o, 0))
	b.ADDQ(op.U32(512), x)
	b.SUBQ(op.I8(-128), q)
	b.ADDQ(op.U8(4), o)
	b.ADDQ(op.I8(-128), n)
	b.JNE(op.LabelRef("block"))
	finish()
	b.Label("refuse")
	b.VXORPS(reg.X0, reg.X0, reg.X0)
	b.Store(reg.X0, b.ReturnIndex(0))
	finish()
}

// fold combines the eight dwords of Y0 in X0.
func fold(combine func(from, to reg.VecPhysical)) {
	b.VEXTRACTI128(op.U8(1), reg.Y0, reg.X1)
	combine(reg.X1, reg.X0)
	for _, order := range []uint64{0x4e, 0xb1} {
		b.VPSHUFD(op.U8(order), reg.X0, reg.X1)
		combine(reg.X1, reg.X0)
	}
}

// largest leaves the largest absolute value of x in X0; as integers, absolute values order as floats do.
func largest(x, n, i reg.GPPhysical) {
	absolute := reg.Z31
	b.VPBROADCASTD(constant(0x7fffffff), absolute)
	for j := range 4 {
		b.VPXORD(zmm[j], zmm[j], zmm[j])
	}
	b.XORQ(i, i)
	b.Label("largest")
	for j := range 8 {
		b.VPANDD(op.Mem{Base: x, Index: i, Scale: 4, Disp: 64 * j}, absolute, zmm[8+j])
		b.VPMAXUD(zmm[8+j], zmm[j%4], zmm[j%4])
	}
	b.SUBQ(op.I8(-128), i)
	b.CMPQ(i, n)
	b.JLT(op.LabelRef("largest"))
	b.VPMAXUD(reg.Z1, reg.Z0, reg.Z0)
	b.VPMAXUD(reg.Z3, reg.Z2, reg.Z2)
	b.VPMAXUD(reg.Z2, reg.Z0, reg.Z0)
	b.VEXTRACTI64X4(op.U8(1), reg.Z0, reg.Y1)
	b.VPMAXUD(reg.Y1, reg.Y0, reg.Y0)
	fold(func(from, to reg.VecPhysical) { b.VPMAXUD(from, to, to) })
}

// quotients converts 64 floats to bytes.
func quotients(x reg.GPPhysical, disp int, scale, inv, order reg.VecPhysical) reg.VecPhysical {
	for j := range 4 {
		v, t, r := zmm[j], zmm[4+j], zmm[8+j]
		b.VMOVUPS(at(x, disp+64*j), t)
		b.VMULPS(inv, t, v)
		for range 2 {
			b.VMOVAPS(t, r)
			b.VFNMADD231PS(scale, v, r)
			b.VFMADD231PS(inv, r, v)
		}
		b.VCVTPS2DQ(v, v)
	}
	b.VPACKSSDW(zmm[1], zmm[0], zmm[0])
	b.VPACKSSDW(zmm[3], zmm[2], zmm[2])
	b.VPACKSSWB(zmm[2], zmm[0], zmm[0])
	b.VPERMD(zmm[0], order, zmm[0])
	return zmm[0]
}
