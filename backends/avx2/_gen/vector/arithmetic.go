package main

import (
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
)

const (
	signBit = 0x80000000
	absBits = 0x7fffffff
	posInf  = 0x7f800000
	negInf  = 0xff800000
	// Immediates of VCMPPS and VROUNDPS.
	equalOrdered     = 0
	lessOrdered      = 1
	unordered        = 3
	nearestEvenQuiet = 8
)

func arithmetic() {
	binary := func(name, doc string, f func(y, x, z vec)) {
		kernel{
			name:   name,
			doc:    doc,
			out:    []string{"dst"},
			in:     []string{"x", "y"},
			unroll: 4,
			body: func(_ map[string]vec, x []vec) []vec {
				z := b.YMM()
				f(x[1], x[0], z)
				return []vec{z}
			},
		}.emit()
	}
	binary("addVec", "sets dst[i] = x[i] + y[i].", func(y, x, z vec) { b.VADDPS(y, x, z) })
	binary("subVec", "sets dst[i] = x[i] - y[i].", func(y, x, z vec) { b.VSUBPS(y, x, z) })
	binary("mulVec", "sets dst[i] = x[i] * y[i].", func(y, x, z vec) { b.VMULPS(y, x, z) })
	binary("divVec", "sets dst[i] = x[i] / y[i].", func(y, x, z vec) { b.VDIVPS(y, x, z) })
	binary("maxVec", "sets dst[i] = max(x[i], y[i]).", largest)
	binary("minVec", "sets dst[i] = min(x[i], y[i]).", smallest)

	unary := func(name, doc string, f func(x, z vec)) {
		kernel{
			name:   name,
			doc:    doc,
			out:    []string{"dst"},
			in:     []string{"x"},
			unroll: 4,
			body: func(_ map[string]vec, x []vec) []vec {
				z := b.YMM()
				f(x[0], z)
				return []vec{z}
			},
		}.emit()
	}
	unary("negVec", "sets dst[i] = -x[i].", func(x, z vec) { b.VXORPS(repeated(signBit), x, z) })
	unary("absVec", "sets dst[i] = |x[i]|.", func(x, z vec) { b.VANDPS(repeated(absBits), x, z) })
	unary("sqrtVec", "sets dst[i] = sqrt(x[i]).", func(x, z vec) { b.VSQRTPS(x, z) })
	unary("roundVec", "sets dst[i] = x[i] rounded half to even.", func(x, z vec) { b.VROUNDPS(op.U8(nearestEvenQuiet), x, z) })
	unary("rsqrtVec", "sets dst[i] = 1 / sqrt(x[i]), two roundings.", func(x, z vec) {
		one := b.YMM()
		b.VMOVUPS(float(1), one)
		b.VSQRTPS(x, z)
		b.VDIVPS(z, one, z)
	})

	withScalar := func(name, doc string, f func(c, x, z vec)) {
		kernel{
			name:    name,
			doc:     doc,
			out:     []string{"dst"},
			in:      []string{"x"},
			scalars: []string{"c"},
			unroll:  4,
			body: func(s map[string]vec, x []vec) []vec {
				z := b.YMM()
				f(s["c"], x[0], z)
				return []vec{z}
			},
		}.emit()
	}
	withScalar("addSVec", "sets dst[i] = x[i] + c.", func(c, x, z vec) { b.VADDPS(c, x, z) })
	withScalar("mulSVec", "sets dst[i] = x[i] * c.", func(c, x, z vec) { b.VMULPS(c, x, z) })
	withScalar("divSVec", "sets dst[i] = x[i] / c.", func(c, x, z vec) { b.VDIVPS(c, x, z) })
	withScalar("rsubSVec", "sets dst[i] = c - x[i].", func(c, x, z vec) { b.VSUBPS(x, c, z) })
	withScalar("rdivSVec", "sets dst[i] = c / x[i].", func(c, x, z vec) { b.VDIVPS(x, c, z) })
	withScalar("maxSVec", "sets dst[i] = max(x[i], c).", largest)
	withScalar("minSVec", "sets dst[i] = min(x[i], c).", smallest)

	kernel{
		name:    "axpyVec",
		doc:     "sets dst[i] = fma(c, x[i], dst[i]).",
		out:     []string{"dst"},
		in:      []string{"dst", "x"},
		scalars: []string{"c"},
		unroll:  4,
		body: func(s map[string]vec, x []vec) []vec {
			b.VFMADD231PS(s["c"], x[1], x[0])
			return []vec{x[0]}
		},
	}.emit()
	kernel{
		name:   "mulAddVec",
		doc:    "sets dst[i] = fma(x[i], y[i], z[i]).",
		out:    []string{"dst"},
		in:     []string{"x", "y", "z"},
		unroll: 2,
		body: func(_ map[string]vec, x []vec) []vec {
			b.VFMADD231PS(x[0], x[1], x[2])
			return []vec{x[2]}
		},
	}.emit()
}

// largest sets z = max(x, y) as Go defines it: NaN if either is NaN, and
// max(-0, +0) = +0. VMAXPS alone returns its second operand in both cases;
// both orders and an AND settle the zeros, an unordered sum the NaNs. z may be x or y.
func largest(y, x, z vec) { extremum(y, x, z, true) }

func smallest(y, x, z vec) { extremum(y, x, z, false) }

func extremum(y, x, z vec, maximum bool) {
	swapped, nan, sum := b.YMM(), b.YMM(), b.YMM()
	b.VCMPPS(op.U8(unordered), y, x, nan)
	b.VADDPS(y, x, sum)
	if maximum {
		b.VMAXPS(x, y, swapped)
		b.VMAXPS(y, x, z)
		b.VANDPS(swapped, z, z)
	} else {
		b.VMINPS(x, y, swapped)
		b.VMINPS(y, x, z)
		b.VORPS(swapped, z, z)
	}
	b.VBLENDVPS(nan, sum, z, z)
}
