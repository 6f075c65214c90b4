// Command gemm512 writes the AVX-512 matrix-multiply assembly of package simd: micro-kernels over packed panels, and the
// packing loops. Registers are named here, because the allocator of avo knows only sixteen of the vectors.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// tileRows are the rows of the largest micro-kernel: with two panels 24 of the 32 registers are accumulators.
const tileRows = 12

var z = [32]VecPhysical{
	Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15,
	Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31,
}

func main() {
	ConstraintExpr("amd64")
	ConstraintExpr("!purego")
	for rows := 1; rows <= tileRows; rows++ {
		newKernel(rows, 1).write()
		newKernel(rows, 2).write()
	}
	for rows := 1; rows <= 3; rows++ {
		newKernel(rows, 4).write()
	}
	fmaPeak()
	Generate()
}

// byteStride loads an element count and turns it into bytes.
func byteStride(name string) GPVirtual {
	r := GP64()
	Load(Param(name), r)
	SHLQ(Imm(2), r)
	return r
}

// argument is the place of an argument, which may be changed: registers are scarce.
func argument(c gotypes.Component) Mem {
	b, err := c.Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// kernel is a micro-kernel of rows by panels: every element has one accumulator, so its bits are those of a plain loop.
type kernel struct {
	rows, panels        int
	c, ldc, rs, cs, ldp Register
	acc                 [][]VecPhysical // [rows][panels]
	free                []VecPhysical   // what the accumulators leave
}

func newKernel(rows, panels int) *kernel {
	k := &kernel{rows: rows, panels: panels}
	for r := range rows {
		k.acc = append(k.acc, z[r*panels:(r+1)*panels])
	}
	k.free = z[rows*panels:]
	return k
}

func (k *kernel) write() {
	name := fmt.Sprintf("gemm512r%dp%d", k.rows, k.panels)
	TEXT(name, NOSPLIT, "func(c []float32, ldc int, a []float32, rs, cs int, b []float32, ldp, k, tiles, ts int, next []float32, cols int, first bool)")
	Doc(fmt.Sprintf("%s computes tiles of %d rows and %d panels; see gemm512Kernel.", name, k.rows, k.panels))
	Pragma("noescape")
	k.c = Load(Param("c").Base(), GP64())
	k.ldc, k.rs, k.cs = byteStride("ldc"), byteStride("rs"), byteStride("cs")
	if k.panels > 1 {
		k.ldp = byteStride("ldp")
	}
	k.mask()
	Label("tile")
	k.start()
	k.loop()
	k.end()
	VZEROUPPER()
	RET()
}

// mask sets K1 to the columns of the last panel that exist.
func (k *kernel) mask() {
	Load(Param("cols"), RCX)
	SUBQ(U32(16*(k.panels-1)), RCX)
	m := GP64()
	MOVQ(U32(1), m)
	SHLQ(CL, m)
	DECQ(m)
	KMOVW(m.As32(), K1)
}

// each calls f for each accumulator and its place in c, row by row.
func (k *kernel) each(f func(acc VecPhysical, at Mem, last bool)) {
	p := GP64()
	MOVQ(k.c, p)
	for r := range k.acc {
		for v, acc := range k.acc[r] {
			f(acc, Mem{Base: p, Disp: 64 * v}, v == k.panels-1)
		}
		if r < k.rows-1 {
			ADDQ(k.ldc, p)
		}
	}
}

// start zeroes the accumulators or continues with c.
func (k *kernel) start() {
	CMPB(argument(Param("first")), Imm(0))
	JEQ(LabelRef("resume"))
	for _, row := range k.acc {
		for _, acc := range row {
			VPXORD(acc, acc, acc)
		}
	}
	JMP(LabelRef("start"))
	Label("resume")
	k.each(func(acc VecPhysical, at Mem, last bool) {
		if last {
			VMOVUPS_Z(at, K1, acc)
		} else {
			VMOVUPS(at, acc)
		}
	})
	Label("start")
}

// aBases are the pointers to rows 0, 3, 6 and 9 of a.
func (k *kernel) aBases() []Register {
	var bases []Register
	for r := 0; r < k.rows; r += 3 {
		p := GP64()
		if r == 0 {
			Load(Param("a").Base(), p)
		} else {
			LEAQ(Mem{Base: k.rs, Index: k.rs, Scale: 2}, p)
			ADDQ(bases[len(bases)-1], p)
		}
		bases = append(bases, p)
	}
	return bases
}

// fetcher writes what a step of a turn fetches ahead.
type fetcher func(step int)

// turnSteps is how many steps of k a turn of the loop takes.
const turnSteps = 4

// loop writes the loop over k, some steps a turn, then the steps that are left.
func (k *kernel) loop() {
	a, b, n := k.aBases(), GP64(), Load(Param("k"), GP64())
	Load(Param("b").Base(), b)
	panel := k.panelAt(b)
	turn := func(steps int, fetch fetcher) {
		for s := range steps {
			k.step(a, func(p int) Mem {
				m := panel(p)
				m.Disp = 64 * s
				return m
			})
			fetch(s)
			for _, p := range a {
				ADDQ(k.cs, p)
			}
		}
		ADDQ(U32(64*steps), b)
	}
	none := func(int) {}
	fetch := fetcher(none)
	if k.rows == tileRows {
		fetch = k.fetchPanels(b)
		k.firstTurns(n, fetch, turn)
	}
	SUBQ(Imm(turnSteps), n)
	JLT(LabelRef("rest"))
	Label("turn")
	turn(turnSteps, fetch)
	SUBQ(Imm(turnSteps), n)
	JGE(LabelRef("turn"))
	Label("rest")
	ADDQ(Imm(turnSteps), n)
	JE(LabelRef("done"))
	Label("one")
	turn(1, none)
	DECQ(n)
	JNE(LabelRef("one"))
	Label("done")
}

// panelAt gives the places of the panels' rows from b on.
func (k *kernel) panelAt(b Register) func(p int) Mem {
	var ldp3 Register
	if k.panels > 3 {
		ldp3 = GP64()
		LEAQ(Mem{Base: k.ldp, Index: k.ldp, Scale: 2}, ldp3)
	}
	return func(p int) Mem {
		switch p {
		case 0:
			return Mem{Base: b}
		case 3:
			return Mem{Base: b, Index: ldp3, Scale: 1}
		default:
			return Mem{Base: b, Index: k.ldp, Scale: uint8(p)}
		}
	}
}

// fetchPanels asks in each turn for a line of each of the panels that come next, where this tile is in its own: every
// fourth, so that four tiles ask for all of them. A tile that asked for its share at once would fill the buffers of
// the first-level cache and wait.
func (k *kernel) fetchPanels(b Register) fetcher {
	next := argument(Param("next").Base())
	ahead := []Register{GP64()}
	MOVQ(next, ahead[0])
	SUBQ(b, ahead[0])
	ADDQ(Imm(64), next)
	if k.panels > 1 {
		ahead = append(ahead, GP64())
		LEAQ(Mem{Base: ahead[0], Index: k.ldp, Scale: 1}, ahead[1])
	}
	return func(step int) {
		if step%2 == 1 && step/2 < len(ahead) {
			PREFETCHT1(Mem{Base: b, Index: ahead[step/2], Scale: 1})
		}
	}
}

// firstTurns writes the turns that also ask for the rows of c of the next tile, one each: a pass that continues c would
// wait for them with nothing else to do.
func (k *kernel) firstTurns(n Register, fetch fetcher, turn func(steps int, fetch fetcher)) {
	c, count := GP64(), GP64()
	IMUL3Q(U32(k.rows), k.ldc, c)
	ADDQ(k.c, c)
	MOVQ(U32(k.rows), count)
	SUBQ(U32(turnSteps*k.rows), n)
	JLT(LabelRef("short"))
	Label("first")
	turn(turnSteps, func(step int) {
		fetch(step)
		switch {
		case step == 0:
			PREFETCHT0(Mem{Base: c})
		case step == 2:
			PREFETCHT0(Mem{Base: c, Disp: 64*k.panels - 1})
			ADDQ(k.ldc, c)
		}
	})
	DECQ(count)
	JNE(LabelRef("first"))
	JMP(LabelRef("other"))
	Label("short")
	ADDQ(U32(turnSteps*k.rows), n)
	Label("other")
}

// step writes the multiply-adds of one k. Elements of a are broadcast by the load, which costs no port of arithmetic,
// and kept where several panels need them: as operands of each multiply-add they would take more loads than there is time.
func (k *kernel) step(a []Register, b func(p int) Mem) {
	row := func(r int) Mem {
		m := Mem{Base: a[r/3]}
		if r%3 > 0 {
			m.Index, m.Scale = k.rs, uint8(r%3)
		}
		return m
	}
	if k.rows == 1 {
		x := k.free[0]
		VBROADCASTSS(row(0), x)
		for p := range k.panels {
			VFMADD231PS(b(p), x, k.acc[0][p])
		}
		return
	}
	bs, free := k.free[:k.panels], k.free[k.panels:]
	for p, v := range bs {
		VMOVUPS(b(p), v)
	}
	for r := range k.rows {
		if k.panels == 1 {
			VFMADD231PS_BCST(row(r), bs[0], k.acc[r][0])
			continue
		}
		x := free[r%min(len(free), 4)]
		VBROADCASTSS(row(r), x)
		for p, v := range bs {
			VFMADD231PS(v, x, k.acc[r][p])
		}
	}
}

// end writes c and goes on to the next tile.
func (k *kernel) end() {
	k.each(func(acc VecPhysical, at Mem, last bool) {
		if last {
			VMOVUPS(acc, K1, at)
		} else {
			VMOVUPS(acc, at)
		}
	})
	down, ts := GP64(), Load(Param("ts"), GP64())
	IMUL3Q(U32(k.rows), k.ldc, down)
	ADDQ(down, k.c)
	SHLQ(Imm(2), ts)
	ADDQ(ts, argument(Param("a").Base()))
	DECQ(argument(Param("tiles")))
	JNE(LabelRef("tile"))
}

// fmaPeak writes a loop that never leaves the registers: the limit that a matrix product is measured against.
func fmaPeak() {
	TEXT("FMAPeak512", NOSPLIT, "func(iters int)")
	Doc("FMAPeak512 runs iters rounds of 24 independent 16-lane multiply-adds in registers: 768 operations a round, the",
		"machine's limit for one thread. iters >= 1.")
	n := Load(Param("iters"), GP64())
	for _, r := range z[:26] {
		VPXORD(r, r, r)
	}
	Label("loop")
	for _, acc := range z[:24] {
		VFMADD231PS(z[24], z[25], acc)
	}
	DECQ(n)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
