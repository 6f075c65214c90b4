package main

import (
	"math"

	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
)

func transcendental() {
	kernel{
		name:    "expVec",
		doc:     "sets dst[i] = refExp(x[i]).",
		out:     []string{"dst"},
		in:      []string{"x"},
		unroll:  2,
		prepare: expConstants,
		body: func(s map[string]vec, x []vec) []vec {
			return []vec{exp(s, x[0])}
		},
	}.emit()
	kernel{
		name:    "expScaleVec",
		doc:     "sets dst[i] = c * refExp(x[i] - s).",
		out:     []string{"dst"},
		in:      []string{"x"},
		scalars: []string{"s", "c"},
		unroll:  2,
		prepare: expConstants,
		body: func(s map[string]vec, x []vec) []vec {
			z := b.YMM()
			b.VSUBPS(s["s"], x[0], x[0])
			b.VMULPS(exp(s, x[0]), s["c"], z)
			return []vec{z}
		},
	}.emit()
	kernel{
		name:   "logVec",
		doc:    "sets dst[i] = refLog(x[i]).",
		out:    []string{"dst"},
		in:     []string{"x"},
		unroll: 1,
		body: func(_ map[string]vec, x []vec) []vec {
			return []vec{log(x[0])}
		},
	}.emit()
	kernel{
		name:    "sigmoidVec",
		doc:     "sets dst[i] = 1 / (1 + refExp(-x[i])).",
		out:     []string{"dst"},
		in:      []string{"x"},
		unroll:  2,
		prepare: expConstants,
		body: func(s map[string]vec, x []vec) []vec {
			return []vec{sigmoid(s, x[0])}
		},
	}.emit()
	kernel{
		name:    "swigluVec",
		doc:     "sets dst[i] = (gate[i] * sigmoid(gate[i])) * up[i].",
		out:     []string{"dst"},
		in:      []string{"gate", "up"},
		unroll:  2,
		prepare: expConstants,
		body: func(s map[string]vec, x []vec) []vec {
			z := sigmoid(s, x[0])
			b.VMULPS(z, x[0], z)
			b.VMULPS(x[1], z, z)
			return []vec{z}
		},
	}.emit()
	kernel{
		name:    "swigluGradVec",
		doc:     "sets, with s = sigmoid(gate[i]) and a = gate[i]*s,\ndup[i] = dy[i] * a and dgate[i] = (dy[i] * up[i]) * fma(a, 1-s, s).",
		out:     []string{"dgate", "dup"},
		in:      []string{"gate", "up", "dy"},
		unroll:  1,
		prepare: expConstants,
		body: func(s map[string]vec, x []vec) []vec {
			sg := sigmoid(s, x[0])
			silu, dup, rest, dgate := b.YMM(), b.YMM(), b.YMM(), b.YMM()
			b.VMULPS(sg, x[0], silu)
			b.VMULPS(silu, x[2], dup)
			b.VSUBPS(sg, s["one"], rest)
			b.VFMADD213PS(sg, silu, rest) // rest = silu*rest + sg
			b.VMULPS(x[1], x[2], dgate)
			b.VMULPS(rest, dgate, dgate)
			return []vec{dgate, dup}
		},
	}.emit()
}

// expMagic is 1.5*2^23: adding it to a float below 2^22 rounds to an integer,
// which then stands in the low bits of the sum.
const expMagic = 12582912

func expConstants(s map[string]vec) {
	load := func(name string, f float32) {
		s[name] = b.YMM()
		b.VMOVUPS(float(f), s[name])
	}
	load("lo", -105)
	load("hi", 89)
	load("one", 1)
	load("magic", expMagic)
}

// exp returns e^x. x is clamped to where the result is 0 or +Inf anyway
// (NaN passes: VMINPS returns its second operand), n = round(x/ln 2),
// r = x - n ln 2 in two exact-product steps, a polynomial of degree 7 gives
// e^r, and 2^n is applied as two factors so that subnormal results round once
// and large ones overflow to +Inf.
func exp(s map[string]vec, x vec) vec {
	v, t, n, p, sq := b.YMM(), b.YMM(), b.YMM(), b.YMM(), b.YMM()
	b.VMINPS(x, s["hi"], v)
	b.VMAXPS(v, s["lo"], v)
	b.VMOVAPS(v, t)
	b.VFMADD132PS(float(math.Log2E), s["magic"], t) // t = v*log2e + magic
	b.VSUBPS(s["magic"], t, n)
	b.VFNMADD231PS(float(ln2Hi), n, v)
	b.VFNMADD231PS(float(ln2Lo), n, v)
	b.VMOVUPS(float(expPoly[0]), p)
	for _, c := range expPoly[1:] {
		b.VFMADD213PS(float(c), v, p) // p = p*v + c
	}
	b.VMULPS(v, v, sq)
	b.VFMADD213PS(v, sq, p) // p = p*v^2 + v
	b.VADDPS(s["one"], p, p)
	b.VPSUBD(s["magic"], t, t) // n as an integer
	b.VPSRAD(op.U8(1), t, sq)
	b.VPSUBD(sq, t, t)
	b.VPSLLD(op.U8(23), sq, sq)
	b.VPSLLD(op.U8(23), t, t)
	b.VPADDD(s["one"], sq, sq)
	b.VPADDD(s["one"], t, t)
	b.VMULPS(sq, p, p)
	b.VMULPS(t, p, p)
	return p
}

const (
	ln2Hi = 0x1.62e430p-1
	ln2Lo = -0x1.05c610p-29
)

// expPoly approximates (e^r - 1 - r) / r^2 on |r| <= ln(2)/2, highest power
// first (Cephes expf, S. Moshier).
var expPoly = [6]float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}

func sigmoid(s map[string]vec, x vec) vec {
	v := b.YMM()
	b.VXORPS(repeated(signBit), x, v)
	e := exp(s, v)
	b.VADDPS(s["one"], e, e)
	b.VDIVPS(e, s["one"], e)
	return e
}

// logPoly approximates (log(1+f) - f + f^2/2) / f^3 on
// sqrt(1/2)-1 <= f < sqrt(2)-1, highest power first (Cephes logf, S. Moshier).
var logPoly = [9]float32{7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1}

// log returns the natural logarithm: subnormals are scaled by 2^23, the
// mantissa m is brought to [sqrt(1/2), sqrt(2)), and the specials (zero,
// negative, +Inf, NaN) are blended in at the end.
func log(x vec) vec {
	small, v, e, t, f, p, z := b.YMM(), b.YMM(), b.YMM(), b.YMM(), b.YMM(), b.YMM(), b.YMM()
	b.VCMPPS(op.U8(lessOrdered), repeated(0x00800000), x, small)
	b.VMULPS(repeated(0x4b000000), x, v) // x * 2^23
	b.VBLENDVPS(small, v, x, v)
	b.VPSUBD(repeated(0x3f3504f3), v, t)
	b.VPSRAD(op.U8(23), t, e)
	b.VPSLLD(op.U8(23), e, t)
	b.VPSUBD(t, v, f)
	b.VANDPS(repeated(23), small, t)
	b.VPSUBD(t, e, e)
	b.VCVTDQ2PS(e, e)
	b.VSUBPS(float(1), f, f)
	b.VMULPS(f, f, z)
	b.VMOVUPS(float(logPoly[0]), p)
	for _, c := range logPoly[1:] {
		b.VFMADD213PS(float(c), f, p)
	}
	b.VMULPS(f, p, p)
	b.VMULPS(z, p, p)
	b.VFMADD231PS(float(-2.12194440e-4), e, p)
	b.VFNMADD231PS(float(0.5), z, p)
	b.VADDPS(p, f, p)
	b.VFMADD231PS(float(0.693359375), e, p)
	// +Inf and NaN: x itself (NaN stays; +Inf + Inf). Zero: -Inf. Negative: NaN.
	zero := b.YMM()
	b.VXORPS(zero, zero, zero)
	b.VCMPPS(op.U8(lessOrdered), repeated(posInf), x, t) // finite (or negative)
	b.VBLENDVPS(t, p, x, p)
	b.VCMPPS(op.U8(equalOrdered), zero, x, t)
	b.VBLENDVPS(t, repeated(negInf), p, p)
	b.VCMPPS(op.U8(lessOrdered), zero, x, t)
	b.VBLENDVPS(t, repeated(0x7fc00000), p, p)
	return p
}
