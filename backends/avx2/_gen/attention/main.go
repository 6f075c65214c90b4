// Command attention writes the row routines of package simd's attention kernels.
package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	ConstraintExpr("!purego")
	c := constants()
	rowMax(c)
	rowExp(c)
	rowGrad(c)
	rowScale()
	Generate()
}

type table struct {
	mem   Mem
	index map[string]int
}

// vec is the address of a constant in all eight lanes.
func (t table) vec(name string) Mem { return t.mem.Offset(32 * t.index[name]) }

// constants writes the table of constants, then eight words of ones and eight of zeros, of which a load picks a mask.
func constants() table {
	t := table{mem: GLOBL("attnConst", RODATA|NOPTR), index: map[string]int{}}
	add := func(name string, bits uint32) {
		t.index[name] = len(t.index)
		for i := range 8 {
			DATA(32*t.index[name]+4*i, U32(bits))
		}
	}
	for _, c := range []struct {
		name  string
		value float32
	}{
		{"log2e", math.Log2E},
		{"-ln2hi", -0.693359375},
		{"-ln2lo", 2.12194440e-4},
		{"c0", 1.9875691500e-4},
		{"c1", 1.3981999507e-3},
		{"c2", 8.3334519073e-3},
		{"c3", 4.1665795894e-2},
		{"c4", 1.6666665459e-1},
		{"c5", 5.0000001201e-1},
		{"one", 1},
		{"least", -87.336},
		{"-inf", float32(math.Inf(-1))},
	} {
		add(c.name, math.Float32bits(c.value))
	}
	add("bias", 127)
	add("ones", math.MaxUint32)
	add("zeros", 0)
	return t
}

// tailMask loads a mask of the first n lanes, n in a register (and spoiled) between 0 and 8.
func (t table) tailMask(n Register) VecVirtual {
	p, m := GP64(), YMM()
	LEAQ(t.vec("zeros"), p)
	SHLQ(Imm(2), n)
	SUBQ(n, p)
	VMOVUPS(Mem{Base: p}, m)
	return m
}

// reduce folds eight lanes into lane 0 in a fixed order.
func reduce(v VecVirtual, op func(ops ...Op)) {
	h := YMM()
	VEXTRACTF128(Imm(1), v, h.AsX())
	op(h.AsX(), v.AsX(), v.AsX())
	VPERMILPS(Imm(0x0E), v.AsX(), h.AsX())
	op(h.AsX(), v.AsX(), v.AsX())
	VPERMILPS(Imm(0x01), v.AsX(), h.AsX())
	op(h.AsX(), v.AsX(), v.AsX())
}

func rowMax(t table) {
	TEXT("attnMax", NOSPLIT, "func(x []float32, n int) float32")
	Doc("attnMax is the largest of x[:n], or -Inf if n is 0. It reads x up to the next multiple of 8. It is attnMaxRef.")
	Pragma("noescape")
	x, n := Load(Param("x").Base(), GP64()), Load(Param("n"), GP64())
	m, v := YMM(), YMM()
	VMOVUPS(t.vec("-inf"), m)
	Label("loop")
	SUBQ(Imm(8), n)
	JLT(LabelRef("tail"))
	VMAXPS(Mem{Base: x}, m, m)
	ADDQ(Imm(32), x)
	JMP(LabelRef("loop"))
	Label("tail")
	ADDQ(Imm(8), n)
	JE(LabelRef("done"))
	mask := t.tailMask(n)
	VMOVUPS(t.vec("-inf"), v)
	VBLENDVPS(mask, Mem{Base: x}, v, v)
	VMAXPS(v, m, m)
	Label("done")
	reduce(m, func(ops ...Op) { VMAXPS(ops[0], ops[1], ops[2]) })
	Store(m.AsX(), ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// exp writes e**x for x <= 0 (Cephes expf: a polynomial of degree 7 on [-ln2/2, ln2/2]); 0 below the least normal.
func (t table) exp(x VecVirtual) VecVirtual {
	keep, n, r, p, r2 := YMM(), YMM(), YMM(), YMM(), YMM()
	const notLess = 0x15 // true for NaN, which must come through
	VCMPPS(Imm(notLess), t.vec("least"), x, keep)
	VMULPS(t.vec("log2e"), x, n)
	VROUNDPS(Imm(8), n, n)
	VMOVAPS(x, r)
	VFMADD231PS(t.vec("-ln2hi"), n, r)
	VFMADD231PS(t.vec("-ln2lo"), n, r)
	VMOVUPS(t.vec("c0"), p)
	for _, c := range []string{"c1", "c2", "c3", "c4", "c5"} {
		VFMADD213PS(t.vec(c), r, p)
	}
	VMULPS(r, r, r2)
	VADDPS(t.vec("one"), r, r)
	VFMADD213PS(r, r2, p)
	VCVTPS2DQ(n, n)
	VPADDD(t.vec("bias"), n, n)
	VPSLLD(Imm(23), n, n)
	VMULPS(n, p, p)
	VANDPS(keep, p, p)
	return p
}

func rowExp(t table) {
	TEXT("attnExp", NOSPLIT, "func(x []float32, n, width int, scale, top float32) float32")
	Doc("attnExp replaces x[j] by exp((x[j]-top)*scale) for j < n and by 0 for n <= j < width, and returns the sum, taken",
		"in eight lanes j%8 and then ((0+4)+(2+6))+((1+5)+(3+7)). No x[j] may exceed top; width is a multiple of 8. It is",
		"attnExpRef.")
	Pragma("noescape")
	x, n, width := Load(Param("x").Base(), GP64()), Load(Param("n"), GP64()), Load(Param("width"), GP64())
	scale, top, sum, v := YMM(), YMM(), YMM(), YMM()
	broadcast("scale", scale)
	broadcast("top", top)
	VXORPS(sum, sum, sum)
	SUBQ(n, width)
	Label("loop")
	SUBQ(Imm(8), n)
	JLT(LabelRef("tail"))
	VMOVUPS(Mem{Base: x}, v)
	VSUBPS(top, v, v)
	VMULPS(scale, v, v)
	e := t.exp(v)
	VADDPS(e, sum, sum)
	VMOVUPS(e, Mem{Base: x})
	ADDQ(Imm(32), x)
	JMP(LabelRef("loop"))
	Label("tail")
	ADDQ(Imm(8), n)
	JE(LabelRef("clear"))
	LEAQ(Mem{Base: width, Index: n, Scale: 1, Disp: -8}, width)
	mask := t.tailMask(n)
	VMOVUPS(Mem{Base: x}, v)
	VSUBPS(top, v, v)
	VMULPS(scale, v, v)
	e = t.exp(v)
	VANDPS(mask, e, e)
	VADDPS(e, sum, sum)
	VMOVUPS(e, Mem{Base: x})
	ADDQ(Imm(32), x)
	Label("clear")
	clearRow(width, x)
	reduce(sum, func(ops ...Op) { VADDPS(ops[0], ops[1], ops[2]) })
	Store(sum.AsX(), ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// clearRow zeroes n floats, n a multiple of 8, at each of the pointers.
func clearRow(n Register, at ...Register) {
	zero := YMM()
	VXORPS(zero, zero, zero)
	Label("zero")
	SUBQ(Imm(8), n)
	JLT(LabelRef("cleared"))
	for _, p := range at {
		VMOVUPS(zero, Mem{Base: p})
		ADDQ(Imm(32), p)
	}
	JMP(LabelRef("zero"))
	Label("cleared")
}

func broadcast(param string, to VecVirtual) {
	a, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(a.Addr, to)
}

func rowGrad(t table) {
	TEXT("attnGrad", NOSPLIT, "func(p, dp []float32, n, width int, inv, scale float32)")
	Doc("attnGrad goes back through a softmax row: p[j] *= inv, then dp[j] = p[j]*(dp[j]-delta)*scale where delta is the sum",
		"of p[j]*dp[j] in the order of attnExp, for j < n; both are 0 for n <= j < width, a multiple of 8. It is attnGradRef.")
	Pragma("noescape")
	p, dp := Load(Param("p").Base(), GP64()), Load(Param("dp").Base(), GP64())
	n, width := Load(Param("n"), GP64()), Load(Param("width"), GP64())
	inv, scale, sum, v, w := YMM(), YMM(), YMM(), YMM(), YMM()
	broadcast("inv", inv)
	broadcast("scale", scale)
	VXORPS(sum, sum, sum)
	off, full, rest := GP64(), GP64(), GP64()
	XORQ(off, off)
	MOVQ(n, full)
	SHRQ(Imm(3), full)
	MOVQ(n, rest)
	ANDQ(Imm(7), rest)
	mask := t.tailMask(rest)
	pm, dm := Mem{Base: p, Index: off, Scale: 1}, Mem{Base: dp, Index: off, Scale: 1}
	count := GP64()

	MOVQ(full, count)
	Label("sums")
	SUBQ(Imm(1), count)
	JLT(LabelRef("sumsTail"))
	VMULPS(pm, inv, v)
	VMOVUPS(v, pm)
	VFMADD231PS(dm, v, sum)
	ADDQ(Imm(32), off)
	JMP(LabelRef("sums"))
	Label("sumsTail")
	TESTQ(U32(7), n)
	JE(LabelRef("delta"))
	VMULPS(pm, inv, v)
	VANDPS(mask, v, v)
	VMOVUPS(v, pm)
	VANDPS(dm, mask, w)
	VFMADD231PS(w, v, sum)

	Label("delta")
	reduce(sum, func(ops ...Op) { VADDPS(ops[0], ops[1], ops[2]) })
	delta := YMM()
	VBROADCASTSS(sum.AsX(), delta)
	XORQ(off, off)
	MOVQ(full, count)
	Label("grads")
	SUBQ(Imm(1), count)
	JLT(LabelRef("gradsTail"))
	VMOVUPS(dm, v)
	VSUBPS(delta, v, v)
	VMULPS(pm, v, v)
	VMULPS(scale, v, v)
	VMOVUPS(v, dm)
	ADDQ(Imm(32), off)
	JMP(LabelRef("grads"))
	Label("gradsTail")
	TESTQ(U32(7), n)
	JE(LabelRef("clear"))
	VMOVUPS(dm, v)
	VSUBPS(delta, v, v)
	VMULPS(pm, v, v)
	VMULPS(scale, v, v)
	VANDPS(mask, v, v)
	VMOVUPS(v, dm)
	ADDQ(Imm(32), off)
	Label("clear")
	ADDQ(off, p)
	ADDQ(off, dp)
	SHRQ(Imm(2), off)
	SUBQ(off, width)
	clearRow(width, p, dp)
	VZEROUPPER()
	RET()
}

func rowScale() {
	TEXT("attnScale", NOSPLIT, "func(dst, x []float32, n int, c float32)")
	Doc("attnScale sets dst[j] = x[j]*c + 0 for j < n; the sum turns -0 into 0, so that terms of a row that are 0 cannot be",
		"seen in its bits. It is attnScaleRef.")
	Pragma("noescape")
	dst, x, n := Load(Param("dst").Base(), GP64()), Load(Param("x").Base(), GP64()), Load(Param("n"), GP64())
	c, zero, v := YMM(), YMM(), YMM()
	broadcast("c", c)
	VXORPS(zero, zero, zero)
	Label("loop")
	SUBQ(Imm(8), n)
	JLT(LabelRef("tail"))
	VMULPS(Mem{Base: x}, c, v)
	VADDPS(zero, v, v)
	VMOVUPS(v, Mem{Base: dst})
	ADDQ(Imm(32), x)
	ADDQ(Imm(32), dst)
	JMP(LabelRef("loop"))
	Label("tail")
	ADDQ(Imm(8), n)
	JE(LabelRef("done"))
	Label("one")
	s := XMM()
	VMOVSS(Mem{Base: x}, s)
	VMULSS(c.AsX(), s, s)
	VADDSS(zero.AsX(), s, s)
	VMOVSS(s, Mem{Base: dst})
	ADDQ(Imm(4), x)
	ADDQ(Imm(4), dst)
	DECQ(n)
	JNE(LabelRef("one"))
	Label("done")
	VZEROUPPER()
	RET()
}
