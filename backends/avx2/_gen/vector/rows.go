package main

import (
	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func rows() {
	kernel{
		name:    "rmsScaleVec",
		doc:     "sets dst[i] = (x[i]*rstd) * w[i].",
		out:     []string{"dst"},
		in:      []string{"x", "w"},
		scalars: []string{"rstd"},
		unroll:  2,
		body: func(s map[string]vec, x []vec) []vec {
			b.VMULPS(s["rstd"], x[0], x[0])
			b.VMULPS(x[1], x[0], x[0])
			return []vec{x[0]}
		},
	}.emit()
	kernel{
		name:    "rmsGradVec",
		doc:     "sets dx[i] = fma(-c, x[i], rstd * (dy[i]*w[i])).",
		out:     []string{"dx"},
		in:      []string{"x", "w", "dy"},
		scalars: []string{"rstd", "c"},
		unroll:  2,
		body: func(s map[string]vec, x []vec) []vec {
			b.VMULPS(x[1], x[2], x[2])
			b.VMULPS(s["rstd"], x[2], x[2])
			b.VFNMADD231PS(s["c"], x[0], x[2])
			return []vec{x[2]}
		},
	}.emit()
	kernel{
		name:    "rmsGradOnesVec",
		doc:     "sets dx[i] = fma(-c, x[i], rstd*dy[i]).",
		out:     []string{"dx"},
		in:      []string{"x", "dy"},
		scalars: []string{"rstd", "c"},
		unroll:  2,
		body: func(s map[string]vec, x []vec) []vec {
			b.VMULPS(s["rstd"], x[1], x[1])
			b.VFNMADD231PS(s["c"], x[0], x[1])
			return []vec{x[1]}
		},
	}.emit()
	kernel{
		name:    "gainGradVec",
		doc:     "sets dw[i] = fma(rstd*dy[i], x[i], dw[i]).",
		out:     []string{"dw"},
		in:      []string{"dw", "x", "dy"},
		scalars: []string{"rstd"},
		unroll:  2,
		body: func(s map[string]vec, x []vec) []vec {
			b.VMULPS(s["rstd"], x[2], x[2])
			b.VFMADD231PS(x[2], x[1], x[0])
			return []vec{x[0]}
		},
	}.emit()
	adamW()
	rope("ropeVec", "sets dst[2i] = fma(x[2i], cos[i], -(x[2i+1]*sin[i])) and\ndst[2i+1] = fma(x[2i+1], cos[i], x[2i]*sin[i]).", func(swapped, c, x vec) { b.VFMADDSUB213PS(swapped, c, x) })
	rope("ropeInverseVec", "sets dst[2i] = fma(x[2i], cos[i], x[2i+1]*sin[i]) and\ndst[2i+1] = fma(x[2i+1], cos[i], -(x[2i]*sin[i])).", func(swapped, c, x vec) { b.VFMSUBADD213PS(swapped, c, x) })
}

// adamW rounds every operation, without fusing, so that it equals the plain
// Go loop; it is bound by memory.
func adamW() {
	doc := `sets, element by element,
m' = b1*m + o1*g, v' = b2*v + (o2*g)*g,
p' = p - lr*((m'/c1)/(sqrt(v'/c2)+eps) + decay*p), every operation rounded.`
	kernel{
		name:    "adamWVec",
		doc:     doc,
		out:     []string{"pOut", "mOut", "vOut"},
		in:      []string{"p", "m", "v", "g"},
		scalars: []string{"lr", "b1", "o1", "b2", "o2", "eps", "decay", "c1", "c2"},
		unroll:  1,
		body: func(s map[string]vec, x []vec) []vec {
			p, m, v, g := x[0], x[1], x[2], x[3]
			t, u := b.YMM(), b.YMM()
			b.VMULPS(s["b1"], m, m)
			b.VMULPS(s["o1"], g, t)
			b.VADDPS(t, m, m)
			b.VMULPS(s["b2"], v, v)
			b.VMULPS(s["o2"], g, t)
			b.VMULPS(g, t, t)
			b.VADDPS(t, v, v)
			b.VDIVPS(s["c2"], v, t)
			b.VSQRTPS(t, t)
			b.VADDPS(s["eps"], t, t)
			b.VDIVPS(s["c1"], m, u)
			b.VDIVPS(t, u, u)
			b.VMULPS(s["decay"], p, t)
			b.VADDPS(t, u, u)
			b.VMULPS(s["lr"], u, u)
			b.VSUBPS(u, p, p)
			return []vec{p, m, v}
		},
	}.emit()
}

// rope rotates interleaved pairs; len(x) is even, len(cos) = len(sin) = half.
func rope(name, doc string, rotate func(swapped, c, x vec)) {
	b.TEXT(name, attr.NOSPLIT, "func(dst, x, cos, sin []float32)")
	b.Pragma("noescape")
	document(name + " " + doc)
	dst, x, cos, sin := base("dst"), base("x"), base("cos"), base("sin")
	n := b.Load(b.Param("dst").Len(), b.GP64()).(reg.GPVirtual)
	i := b.GP64()
	b.XORQ(i, i)
	step := func(disp int, mask *vec) {
		at := func(p reg.Register) op.Mem { return op.Mem{Base: p, Index: i, Scale: 4, Disp: disp} }
		atHalf := func(p reg.Register) op.Mem { return op.Mem{Base: p, Index: i, Scale: 2, Disp: disp / 2} }
		v, c, s, swapped := b.YMM(), b.YMM(), b.YMM(), b.YMM()
		if mask == nil {
			b.VMOVUPS(at(x), v)
			b.VPMOVZXDQ(atHalf(cos), c)
			b.VPMOVZXDQ(atHalf(sin), s)
		} else {
			// Every second dword of the mask is the mask of the halves.
			hm := b.YMM()
			b.VPSHUFD(op.U8(0x88), *mask, hm)
			b.VPERMQ(op.U8(0x08), hm, hm)
			b.VMASKMOVPS(at(x), *mask, v)
			b.VMASKMOVPS(atHalf(cos), hm.AsX(), c.AsX())
			b.VMASKMOVPS(atHalf(sin), hm.AsX(), s.AsX())
			b.VPMOVZXDQ(c.AsX(), c)
			b.VPMOVZXDQ(s.AsX(), s)
		}
		b.VMOVSLDUP(c, c)
		b.VMOVSLDUP(s, s)
		b.VSHUFPS(op.U8(0xb1), v, v, swapped)
		b.VMULPS(s, swapped, swapped)
		rotate(swapped, c, v)
		if mask == nil {
			b.VMOVUPS(v, at(dst))
		} else {
			b.VMASKMOVPS(v, *mask, at(dst))
		}
	}
	loops(n, i, 2, step)
	b.VZEROUPPER()
	b.RET()
}
