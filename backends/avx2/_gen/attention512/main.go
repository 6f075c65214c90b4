// Command attention512 writes the exponentials of package simd's attention kernels for AVX-512.
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
	rowExp(constants())
	Generate()
}

// table is a table of constants, one lane each: instructions broadcast them from memory.
type table struct {
	mem   Mem
	index map[string]int
}

func (t table) lane(name string) Mem { return t.mem.Offset(4 * t.index[name]) }

func constants() table {
	t := table{mem: GLOBL("attnConst512", RODATA|NOPTR), index: map[string]int{}}
	add := func(name string, bits uint32) {
		t.index[name] = len(t.index)
		DATA(4*t.index[name], U32(bits))
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
	} {
		add(c.name, math.Float32bits(c.value))
	}
	add("bias", 127)
	return t
}

// exp writes p = e**x for x <= 0, with the operations of the AVX2 routine, lane by lane; it spoils Z8 to Z10 and K2.
func (t table) exp(x, p VecPhysical) {
	n, r, r2 := Z8, Z9, Z10
	const notLess = 0x15 // true for NaN, which must come through
	VCMPPS_BCST(Imm(notLess), t.lane("least"), x, K2)
	VMULPS_BCST(t.lane("log2e"), x, n)
	VRNDSCALEPS(Imm(8), n, n)
	VMOVAPS(x, r)
	VFMADD231PS_BCST(t.lane("-ln2hi"), n, r)
	VFMADD231PS_BCST(t.lane("-ln2lo"), n, r)
	VBROADCASTSS(t.lane("c0"), p)
	for _, c := range []string{"c1", "c2", "c3", "c4", "c5"} {
		VFMADD213PS_BCST(t.lane(c), r, p)
	}
	VMULPS(r, r, r2)
	VADDPS_BCST(t.lane("one"), r, r)
	VFMADD213PS(r, r2, p)
	VCVTPS2DQ(n, n)
	VPADDD_BCST(t.lane("bias"), n, n)
	VPSLLD(Imm(23), n, n)
	VMULPS_Z(n, p, K2, p)
}

// firstLanes sets k to the first n lanes, n from 0 to 16 in RCX; it spoils m.
func firstLanes(k Register, m GPVirtual) {
	MOVQ(U32(1), m)
	SHLQ(CL, m)
	DECQ(m)
	KMOVW(m.As32(), k)
}

func rowExp(t table) {
	TEXT("attnExp512", NOSPLIT, "func(x []float32, n, width int, scale, top float32) float32")
	Doc("attnExp512 is attnExp. Each sixteen are added to the sum's eight lanes in two steps, the lower eight first.")
	Pragma("noescape")
	x, n, width := Load(Param("x").Base(), GP64()), Load(Param("n"), GP64()), Load(Param("width"), GP64())
	scale, top, sum, v, e := Z4, Z5, Z6, Z0, Z1
	broadcast("scale", scale)
	broadcast("top", top)
	VPXORD(sum, sum, sum)
	m := GP64()
	body := func() {
		VSUBPS(top, v, v)
		VMULPS(scale, v, v)
		t.exp(v, e)
	}
	add := func() {
		VADDPS(e.AsY(), sum.AsY(), sum.AsY())
		VEXTRACTF32X8(Imm(1), e, v.AsY())
		VADDPS(v.AsY(), sum.AsY(), sum.AsY())
	}
	SUBQ(n, width)
	Label("loop")
	SUBQ(Imm(16), n)
	JLT(LabelRef("tail"))
	VMOVUPS(Mem{Base: x}, v)
	body()
	VMOVUPS(e, Mem{Base: x})
	add()
	ADDQ(Imm(64), x)
	JMP(LabelRef("loop"))

	Label("tail") // width is now counted from the start of the tail: what the tail lacks is cleared with it
	ADDQ(Imm(16), n)
	ADDQ(n, width)
	MOVQ(n, RCX)
	firstLanes(K1, m)
	VMOVUPS_Z(Mem{Base: x}, K1, v)
	body()
	VMOVAPS_Z(e, K1, e)
	add()
	Label("clear")
	MOVQ(U32(16), RCX)
	CMPQ(width, RCX)
	CMOVQLT(width, RCX)
	firstLanes(K1, m)
	VMOVUPS(e, K1, Mem{Base: x})
	VPXORD(e, e, e)
	ADDQ(Imm(64), x)
	SUBQ(Imm(16), width)
	JGT(LabelRef("clear"))

	y := sum.AsY()
	VEXTRACTF128(Imm(1), y, X0)
	VADDPS(X0, sum.AsX(), sum.AsX())
	VPERMILPS(Imm(0x0E), sum.AsX(), X0)
	VADDPS(X0, sum.AsX(), sum.AsX())
	VPERMILPS(Imm(0x01), sum.AsX(), X0)
	VADDPS(X0, sum.AsX(), sum.AsX())
	Store(sum.AsX(), ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func broadcast(param string, to VecPhysical) {
	a, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(a.Addr, to)
}
