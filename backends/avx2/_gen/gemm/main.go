// Command gemm writes the matrix-multiply assembly of package simd: micro-kernels over packed panels, and the packing loops.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	ConstraintExpr("!purego")
	for rows := 1; rows <= 6; rows++ {
		kernel(rows, 1)
	}
	kernel(1, 4)
	kernel(2, 2)
	kernel(3, 2)
	packCopy()
	copyRows()
	packTranspose()
	packSlivers(6)
	packSlivers(12)
	fmaPeak()
	Generate()
}

// panelLines is how many cache lines of the next panel a tile fetches: a panel has 384 at most, a strip 32 tiles.
const panelLines = 14

// byteStride loads an element count and turns it into bytes.
func byteStride(name string) GPVirtual {
	r := GP64()
	Load(Param(name), r)
	SHLQ(Imm(2), r)
	return r
}

// rowRef addresses row r of a matrix whose rows 0 and 3 are at lo and hi and lie stride apart.
func rowRef(lo, hi, stride Register, r, disp int) Mem {
	base := lo
	if r >= 3 {
		base, r = hi, r-3
	}
	switch r {
	case 0:
		return Mem{Base: base, Disp: disp}
	case 1:
		return Mem{Base: base, Index: stride, Scale: 1, Disp: disp}
	default:
		return Mem{Base: base, Index: stride, Scale: 2, Disp: disp}
	}
}

// kernel writes gemm{rows}x{16*panels}: every element has one accumulator, so its bits are those of a plain loop.
func kernel(rows, panels int) {
	name := fmt.Sprintf("gemm%dx%d", rows, 16*panels)
	ldp, doc := "", fmt.Sprintf("%s computes %d rows of one packed panel of 16 columns", name, rows)
	if panels > 1 {
		ldp = ", ldp"
		doc = fmt.Sprintf("%s computes %d rows of %d packed panels of 16 columns, ldp elements apart", name, rows, panels)
	}
	tiles := " int"
	if rows == 6 {
		tiles = ", tiles, ts int, next []float32"
		doc = fmt.Sprintf("%s computes tiles times 6 rows, those of a ts elements apart, of one packed panel of 16 columns", name)
	}
	TEXT(name, NOSPLIT, fmt.Sprintf("func(c []float32, ldc int, a []float32, rs, cs int, b []float32%s, k%s, first bool)", ldp, tiles))
	Doc(doc+":",
		"c[i*ldc+j] = fma(a[i*rs+l*cs], b[16*l+j], c[i*ldc+j]) for l = 0..k-1, starting from 0 if first.",
		"It is gemmTileRef with rows written out.")
	Pragma("noescape")
	c, a, b := Load(Param("c").Base(), GP64()), Load(Param("a").Base(), GP64()), Load(Param("b").Base(), GP64())
	ldc, rs, cs := byteStride("ldc"), byteStride("rs"), byteStride("cs")
	k := Load(Param("k"), GP64())
	kernelTile(kernelRegs{c: c, a: a, b: b, ldc: ldc, rs: rs, cs: cs, k: k}, rows, panels)
	VZEROUPPER()
	RET()
}

type kernelRegs struct{ c, a, b, ldc, rs, cs, k Register }

// kernelTile writes the loop over tiles (six rows only) around the loop over k.
func kernelTile(g kernelRegs, rows, panels int) {
	var tiles Register
	if rows == 6 {
		tiles = Load(Param("tiles"), GP64())
		Label("tile")
	}
	acc := make([][]VecVirtual, rows)
	for r := range acc {
		for range 2 * panels {
			acc[r] = append(acc[r], YMM())
		}
	}
	c3 := GP64()
	if rows > 3 {
		LEAQ(Mem{Base: g.ldc, Index: g.ldc, Scale: 2}, c3)
		ADDQ(g.c, c3)
	}
	first, err := Param("first").Resolve()
	if err != nil {
		panic(err)
	}
	CMPB(first.Addr, Imm(0))
	JEQ(LabelRef("resume"))
	eachAcc(acc, func(r, v int) { VXORPS(acc[r][v], acc[r][v], acc[r][v]) })
	JMP(LabelRef("start"))
	Label("resume")
	eachAcc(acc, func(r, v int) { VMOVUPS(rowRef(g.c, c3, g.ldc, r, 32*v), acc[r][v]) })
	Label("start")
	if rows == 6 {
		prefetchNextTile(g, c3)
	}
	kernelLoop(g, acc, panels)
	eachAcc(acc, func(r, v int) { VMOVUPS(acc[r][v], rowRef(g.c, c3, g.ldc, r, 32*v)) })
	if rows == 6 {
		LEAQ(Mem{Base: c3, Index: g.ldc, Scale: 2}, g.c)
		ADDQ(g.ldc, g.c)
		ts := Load(Param("ts"), GP64())
		LEAQ(Mem{Base: g.a, Index: ts, Scale: 4}, g.a)
		DECQ(tiles)
		JNE(LabelRef("tile"))
	}
}

// prefetchNextTile fetches the next six rows of c: a pass that resumes would wait for them with nothing else to do.
//
// It also fetches a part of the next panel of b, which would otherwise come all at once.
func prefetchNextTile(g kernelRegs, c3 Register) {
	next, err := Param("next").Base().Resolve()
	if err != nil {
		panic(err)
	}
	p := GP64()
	MOVQ(next.Addr, p)
	for i := range panelLines {
		PREFETCHT1(Mem{Base: p, Disp: 64 * i})
	}
	ADDQ(U32(64*panelLines), p)
	MOVQ(p, next.Addr)

	n0, n3 := GP64(), GP64()
	LEAQ(Mem{Base: c3, Index: g.ldc, Scale: 2}, n0)
	ADDQ(g.ldc, n0)
	LEAQ(Mem{Base: g.ldc, Index: g.ldc, Scale: 2}, n3)
	ADDQ(n0, n3)
	for r := range 6 {
		PREFETCHT0(rowRef(n0, n3, g.ldc, r, 0))
		PREFETCHT0(rowRef(n0, n3, g.ldc, r, 63))
	}
}

func eachAcc(acc [][]VecVirtual, f func(r, v int)) {
	for r := range acc {
		for v := range acc[r] {
			f(r, v)
		}
	}
}

// kernelLoop writes the loop over k, four steps a turn, then the steps that are left.
func kernelLoop(g kernelRegs, acc [][]VecVirtual, panels int) {
	a0, a3, n := GP64(), GP64(), GP64()
	MOVQ(g.a, a0)
	if len(acc) > 3 {
		LEAQ(Mem{Base: g.rs, Index: g.rs, Scale: 2}, a3)
		ADDQ(g.a, a3)
	}
	b := []Register{GP64(), GP64()}
	MOVQ(g.b, b[0])
	var ldp Register
	if panels > 1 {
		ldp = byteStride("ldp")
	}
	if panels > 2 {
		LEAQ(Mem{Base: b[0], Index: ldp, Scale: 2}, b[1])
	}
	turn := func(steps int) {
		for s := range steps {
			kernelStep(acc, a0, a3, g.rs, func(v int) Mem {
				p := v / 2
				m := Mem{Base: b[p/2], Disp: 64*s + 32*(v%2)}
				if p%2 == 1 {
					m.Index, m.Scale = ldp, 1
				}
				return m
			})
			ADDQ(g.cs, a0)
			if len(acc) > 3 {
				ADDQ(g.cs, a3)
			}
		}
		ADDQ(U32(64*steps), b[0])
		if panels > 2 {
			ADDQ(U32(64*steps), b[1])
		}
	}
	MOVQ(g.k, n)
	SUBQ(Imm(4), n)
	JLT(LabelRef("rest"))
	Label("four")
	turn(4)
	SUBQ(Imm(4), n)
	JGE(LabelRef("four"))
	Label("rest")
	ADDQ(Imm(4), n)
	JE(LabelRef("done"))
	Label("one")
	turn(1)
	DECQ(n)
	JNE(LabelRef("one"))
	Label("done")
}

// kernelStep writes the multiply-adds of one k.
func kernelStep(acc [][]VecVirtual, a0, a3, rs Register, at func(v int) Mem) {
	if len(acc) == 1 {
		x := YMM()
		VBROADCASTSS(Mem{Base: a0}, x)
		for v := range acc[0] {
			VFMADD231PS(at(v), x, acc[0][v])
		}
		return
	}
	if len(acc[0]) > 2 { // more vectors of b than of a: hold a's, there are sixteen registers
		xs := make([]VecVirtual, len(acc))
		for r := range xs {
			xs[r] = YMM()
			VBROADCASTSS(rowRef(a0, a3, rs, r, 0), xs[r])
		}
		for v := range acc[0] {
			b := YMM()
			VMOVUPS(at(v), b)
			for r := range acc {
				VFMADD231PS(b, xs[r], acc[r][v])
			}
		}
		return
	}
	bs := make([]VecVirtual, len(acc[0]))
	for v := range bs {
		bs[v] = YMM()
		VMOVUPS(at(v), bs[v])
	}
	for r := range acc {
		x := YMM()
		VBROADCASTSS(rowRef(a0, a3, rs, r, 0), x)
		for v := range acc[r] {
			VFMADD231PS(bs[v], x, acc[r][v])
		}
	}
}
