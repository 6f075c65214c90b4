package main

import (
	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// halves converts whole groups of eight; the Go side pads the last one.
func halves() {
	b.TEXT("f16ToF32Vec", attr.NOSPLIT, "func(dst []float32, x []uint16)")
	b.Pragma("noescape")
	document("f16ToF32Vec sets dst[i] = tensor.F16ToF32(x[i]); len(dst) is a multiple of 8.\nVCVTPH2PS quiets NaN; the payload is put back.")
	dst, x := base("dst"), base("x")
	n := b.Load(b.Param("dst").Len(), b.GP64()).(reg.GPVirtual)
	eights("eight", n, func() {
		f, raw, nan := b.YMM(), b.YMM(), b.YMM()
		b.VCVTPH2PS(op.Mem{Base: x}, f)
		b.VPMOVZXWD(op.Mem{Base: x}, raw)
		b.VCMPPS(op.U8(unordered), f, f, nan)
		b.VPAND(repeated(0x3ff), raw, raw)
		b.VPSLLD(op.U8(13), raw, raw)
		t := b.YMM()
		b.VANDPS(repeated(0xff800000), f, t)
		b.VORPS(raw, t, t)
		b.VBLENDVPS(nan, t, f, f)
		b.VMOVUPS(f, op.Mem{Base: dst})
		b.ADDQ(op.U8(16), x)
		b.ADDQ(op.U8(32), dst)
	})

	b.TEXT("f32ToF16Vec", attr.NOSPLIT, "func(dst []uint16, x []float32)")
	b.Pragma("noescape")
	document("f32ToF16Vec sets dst[i] = tensor.F32ToF16(x[i]); len(dst) is a multiple of 8.")
	dst, x = base("dst"), base("x")
	n = b.Load(b.Param("dst").Len(), b.GP64()).(reg.GPVirtual)
	eights("eight", n, func() {
		f := b.YMM()
		b.VMOVUPS(op.Mem{Base: x}, f)
		b.VCVTPS2PH(op.U8(0), f, op.Mem{Base: dst})
		b.ADDQ(op.U8(32), x)
		b.ADDQ(op.U8(16), dst)
	})
}

func eights(label string, n reg.GPVirtual, body func()) {
	b.Label(label)
	b.CMPQ(n, op.U8(8))
	b.JLT(op.LabelRef("done"))
	body()
	b.SUBQ(op.U8(8), n)
	b.JMP(op.LabelRef(label))
	b.Label("done")
	b.VZEROUPPER()
	b.RET()
}

func quantization() {
	kernel{
		name:    "fakeQuantVec",
		doc:     "sets dst[i] = scale * clamp(round_half_even(x[i]/scale), -127, 127); NaN stays.",
		out:     []string{"dst"},
		in:      []string{"x"},
		scalars: []string{"scale"},
		unroll:  2,
		prepare: func(s map[string]vec) {
			s["lo"], s["hi"] = b.YMM(), b.YMM()
			b.VMOVUPS(float(-127), s["lo"])
			b.VMOVUPS(float(127), s["hi"])
		},
		body: func(s map[string]vec, x []vec) []vec {
			v := b.YMM()
			b.VDIVPS(s["scale"], x[0], v)
			b.VMAXPS(v, s["lo"], v) // the second operand, if one is NaN
			b.VMINPS(v, s["hi"], v)
			b.VROUNDPS(op.U8(nearestEvenQuiet), v, v)
			b.VMULPS(s["scale"], v, v)
			return []vec{v}
		},
	}.emit()
	quantize()
	blockOffsets()
	quantizeToken()
}

var order *op.Mem

// packOrder is the permutation of dwords that undoes the lanes of VPACKSSDW and VPACKSSWB.
func packOrder() op.Mem {
	if order == nil {
		m := b.GLOBL("order", attr.RODATA|attr.NOPTR)
		for i, v := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} {
			b.DATA(4*i, op.U32(v))
		}
		order = &m
	}
	return *order
}

// quantize turns 32 floats into 32 bytes at a time; then 8, then 1 to 7.
func quantize() {
	b.TEXT("quantizeVec", attr.NOSPLIT, "func(q []int8, x []float32, scale float32)")
	b.Pragma("noescape")
	document("quantizeVec sets q[i] = clamp(round_half_even(x[i]/scale), -127, 127); NaN gives -127.")
	q, x := base("q"), base("x")
	n := b.Load(b.Param("q").Len(), b.GP64()).(reg.GPVirtual)
	scale := scalar("scale")
	order := b.YMM()
	b.VMOVDQU(packOrder(), order)
	// VMAXPS returns its second operand when the first is NaN, so -128, which
	// the conversion makes of NaN, cannot occur; VPACKSSWB caps at 127.
	convert := func(v vec) vec {
		b.VDIVPS(scale, v, v)
		b.VMAXPS(float(-127), v, v)
		b.VMINPS(float(127), v, v)
		b.VCVTPS2DQ(v, v)
		return v
	}
	b.Label("block")
	b.CMPQ(n, op.U8(32))
	b.JLT(op.LabelRef("single"))
	var v [4]vec
	for j := range v {
		v[j] = b.YMM()
		b.VMOVUPS(op.Mem{Base: x, Disp: 32 * j}, v[j])
		convert(v[j])
	}
	b.VPACKSSDW(v[1], v[0], v[0])
	b.VPACKSSDW(v[3], v[2], v[2])
	b.VPACKSSWB(v[2], v[0], v[0])
	b.VPERMD(v[0], order, v[0])
	b.VMOVDQU(v[0], op.Mem{Base: q})
	b.ADDQ(op.U32(128), x)
	b.ADDQ(op.U8(32), q)
	b.SUBQ(op.U8(32), n)
	b.JMP(op.LabelRef("block"))
	narrow := func(w vec) reg.GPVirtual {
		h, r := b.XMM(), b.GP64()
		b.VEXTRACTI128(op.U8(1), w, h)
		b.VPACKSSDW(h, w.AsX(), h)
		b.VPACKSSWB(h, h, h)
		b.VMOVQ(h, r)
		return r
	}
	b.Label("single")
	b.CMPQ(n, op.U8(8))
	b.JLT(op.LabelRef("tail"))
	w := b.YMM()
	b.VMOVUPS(op.Mem{Base: x}, w)
	r := narrow(convert(w))
	b.MOVQ(r, op.Mem{Base: q})
	b.ADDQ(op.U8(32), x)
	b.ADDQ(op.U8(8), q)
	b.SUBQ(op.U8(8), n)
	b.JMP(op.LabelRef("single"))
	b.Label("tail")
	b.TESTQ(n, n)
	b.JEQ(op.LabelRef("done"))
	left := b.GP64()
	b.MOVQ(n, left)
	m := tailMask(n)
	b.VMASKMOVPS(op.Mem{Base: x}, m, w)
	r = narrow(convert(w))
	b.Label("byte")
	b.MOVB(r.As8(), op.Mem{Base: q})
	b.SHRQ(op.U8(8), r)
	b.INCQ(q)
	b.DECQ(left)
	b.JNE(op.LabelRef("byte"))
	b.Label("done")
	b.VZEROUPPER()
	b.RET()
}

// blockOffsets writes the accumulators' starting values of the ternary
// kernels: minus the sum of a block of activations, in the low 16 bits.
func blockOffsets() {
	b.TEXT("blockOffsetsVec", attr.NOSPLIT, "func(dst []int32, q []int8, block int)")
	b.Pragma("noescape")
	document("blockOffsetsVec sets dst[i] = int32(uint16(-sum(q[i*block:(i+1)*block]))); block is a multiple of 16.")
	dst, q := base("dst"), base("q")
	n := b.Load(b.Param("dst").Len(), b.GP64()).(reg.GPVirtual)
	block := b.Load(b.Param("block"), b.GP64()).(reg.GPVirtual)
	flip, zero := b.XMM(), b.XMM()
	b.VMOVDQU(repeated(0x80808080), flip)
	b.VPXOR(zero, zero, zero)
	b.TESTQ(n, n)
	b.JEQ(op.LabelRef("done"))
	b.Label("next")
	left, acc, v, t := b.GP64(), b.XMM(), b.XMM(), b.XMM()
	b.MOVQ(block, left)
	b.VPXOR(acc, acc, acc)
	b.Label("sixteen")
	// q + 128 is unsigned; VPSADBW against zero adds eight bytes a lane.
	b.VPXOR(op.Mem{Base: q}, flip, v)
	b.VPSADBW(zero, v, v)
	b.VPADDQ(v, acc, acc)
	b.ADDQ(op.U8(16), q)
	b.SUBQ(op.U8(16), left)
	b.JNE(op.LabelRef("sixteen"))
	b.VPSHUFD(op.U8(0x4e), acc, t)
	b.VPADDQ(t, acc, acc)
	sum, bias := b.GP64(), b.GP64()
	b.VMOVQ(acc, sum)
	b.MOVQ(block, bias)
	b.SHLQ(op.U8(7), bias)
	b.SUBQ(sum, bias)
	b.MOVWLZX(bias.As16(), bias.As32())
	b.MOVL(bias.As32(), op.Mem{Base: dst})
	b.ADDQ(op.U8(4), dst)
	b.DECQ(n)
	b.JNE(op.LabelRef("next"))
	b.Label("done")
	b.VZEROUPPER()
	b.RET()
}
