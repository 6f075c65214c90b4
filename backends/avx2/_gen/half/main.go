// Command half writes the kernels of package simd that read rows of a matrix as they are stored, f32 or f16.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// element is how the rows are stored.
type element struct {
	suffix, goType string
	shift          uint64 // log2 of its bytes
}

var elements = []element{{"", "float32", 2}, {"Half", "uint16", 1}}

func main() {
	ConstraintExpr("amd64")
	ConstraintExpr("!purego")
	for _, e := range elements {
		e.dots()
		for _, width := range []int{64, 32, 8} {
			e.sum(width)
		}
	}
	panelDots()
	Generate()
}

// bytes is the size of n elements.
func (e element) bytes(n int) int { return n << e.shift }

// stride loads an element count and turns it into bytes.
func (e element) stride(name string) Register {
	r := Load(Param(name), GP64())
	SHLQ(Imm(e.shift), r)
	return r
}

// chunk is the number of steps of k in one round of dots.
const chunk = 8

// dots writes the products of a vector with rows: eight rows are eight lanes, turned by shuffles in registers, so each
// product is one chain over ascending k.
func (e element) dots() {
	name := "rowDots" + e.suffix
	TEXT(name, NOSPLIT, fmt.Sprintf("func(dst, x []float32, rows []%s, ld, k, blocks, ahead int)", e.goType))
	Doc(name+" sets dst[j] = chain of fma(x[l], rows[j*ld+l], .) over l = 0..k-1 from zero, for j < 8*blocks; k is a",
		"positive multiple of 8. It is rowDots"+e.suffix+"Ref. As many bytes as it reads, from ahead elements after the first row",
		"of every 32 on, it asks the memory for.")
	Pragma("noescape")
	d := dotsCall{element: e, dst: Load(Param("dst").Base(), GP64()), rows: Load(Param("rows").Base(), GP64())}
	d.ld = e.stride("ld")
	d.ld3 = GP64()
	LEAQ(Mem{Base: d.ld, Index: d.ld, Scale: 2}, d.ld3)
	blocks := Load(Param("blocks"), GP64())
	for _, n := range []int{4, 2, 1} {
		label := fmt.Sprintf("%d", n)
		Label("blocks" + label)
		CMPQ(blocks, U32(n))
		JLT(LabelRef("less" + label))
		d.pass(n)
		SUBQ(U32(n), blocks)
		JMP(LabelRef("blocks" + label))
		Label("less" + label)
	}
	VZEROUPPER()
	RET()
}

type dotsCall struct {
	element
	dst, rows, ld, ld3 Register
}

// pass writes the products of 8*n rows and moves on to those after them.
func (d *dotsCall) pass(n int) {
	at := make([]Register, 2*n) // rows 4i of the pass
	for i := range at {
		at[i] = GP64()
		if i == 0 {
			MOVQ(d.rows, at[i])
		} else {
			LEAQ(Mem{Base: at[i-1], Index: d.ld, Scale: 4}, at[i])
		}
	}
	acc := []VecPhysical{Y0, Y1, Y2, Y3}[:n]
	for _, y := range acc {
		VXORPS(y, y, y)
	}
	k, x := Load(Param("k"), GP64()), Load(Param("x").Base(), GP64())
	ahead := d.stride("ahead")
	ADDQ(at[0], ahead)
	loop := fmt.Sprintf("steps%d", n)
	Label(loop)
	for l := 0; l < chunk; l += 4 {
		b := [4]VecPhysical{Y4, Y5, Y6, Y7}
		for i := range b {
			VBROADCASTSS(Mem{Base: x, Disp: 4 * (l + i)}, b[i])
		}
		for i := range acc {
			for j, c := range d.columns(at[2*i], at[2*i+1], d.bytes(l)) {
				VFMADD231PS(c, b[j], acc[i])
			}
		}
	}
	read := 8 * n * d.bytes(chunk)
	for i := 0; i < read; i += 64 {
		PREFETCHT1(Mem{Base: ahead, Disp: i})
	}
	ADDQ(U32(read), ahead)
	for i := range at {
		ADDQ(U32(d.bytes(chunk)), at[i])
	}
	ADDQ(U32(4*chunk), x)
	SUBQ(U32(chunk), k)
	JNE(LabelRef(loop))
	for i := range acc {
		VMOVUPS(acc[i], Mem{Base: d.dst, Disp: 32 * i})
	}
	ADDQ(U32(32*n), d.dst)
	LEAQ(Mem{Base: at[2*n-1], Index: d.ld, Scale: 4}, d.rows)
	SUBQ(d.stride("k"), d.rows)
}

// columns loads four columns of eight rows, whose first and fifth are at lo and hi, as four vectors of eight rows.
func (d *dotsCall) columns(lo, hi Register, disp int) [4]VecPhysical {
	// By name: to avo, half a written register would be alive from the start.
	r, t := [4]VecPhysical{Y8, Y9, Y10, Y11}, [4]VecPhysical{Y12, Y13, Y14, Y15}
	for i := range r {
		d.pair(r[i], row(lo, d.ld, d.ld3, i, disp), row(hi, d.ld, d.ld3, i, disp))
	}
	VUNPCKLPS(r[1], r[0], t[0])
	VUNPCKHPS(r[1], r[0], t[1])
	VUNPCKLPS(r[3], r[2], t[2])
	VUNPCKHPS(r[3], r[2], t[3])
	VUNPCKLPD(t[2], t[0], r[0])
	VUNPCKHPD(t[2], t[0], r[1])
	VUNPCKLPD(t[3], t[1], r[2])
	VUNPCKHPD(t[3], t[1], r[3])
	return r
}

// pair loads four elements of one row and four of another into the halves of v.
func (e element) pair(v VecPhysical, lo, hi Mem) {
	if e.goType == "float32" {
		VMOVUPS(lo, v.AsX())
		VINSERTF128(Imm(1), hi, v, v)
		return
	}
	VMOVQ(lo, v.AsX())
	VPINSRQ(Imm(1), hi, v.AsX(), v.AsX())
	VCVTPH2PS(v.AsX(), v)
}

// row addresses row i < 4 of a matrix at base.
func row(base, ld, ld3 Register, i, disp int) Mem {
	switch i {
	case 0:
		return Mem{Base: base, Disp: disp}
	case 3:
		return Mem{Base: base, Index: ld3, Scale: 1, Disp: disp}
	}
	return Mem{Base: base, Index: ld, Scale: uint8(i), Disp: disp}
}

// sum writes a weighted sum of rows: a vector of results has one accumulator, so each result is one chain.
func (e element) sum(width int) {
	name := fmt.Sprintf("rowSum%d%s", width, e.suffix)
	TEXT(name, NOSPLIT, fmt.Sprintf("func(dst, p []float32, rows []%s, ld, n, ahead int, first bool)", e.goType))
	Doc(fmt.Sprintf("%s sets dst[i] = chain of fma(p[j], rows[j*ld+i], .) over j = 0..n-1, from zero if first, else from", name),
		fmt.Sprintf("dst[i], for i < %d. It is rowSum%sRef. As many bytes as it reads, from ahead elements after rows on, it asks", width, e.suffix),
		"the memory for.")
	Pragma("noescape")
	dst, p := Load(Param("dst").Base(), GP64()), Load(Param("p").Base(), GP64())
	rows, ld, n := Load(Param("rows").Base(), GP64()), e.stride("ld"), Load(Param("n"), GP64())
	ahead, first := e.stride("ahead"), Load(Param("first"), GP8())
	ADDQ(rows, ahead)
	acc := make([]VecVirtual, width/8)
	for i := range acc {
		acc[i] = YMM()
		VXORPS(acc[i], acc[i], acc[i])
	}
	TESTB(first, first)
	JNE(LabelRef("loop"))
	for i := range acc {
		VMOVUPS(Mem{Base: dst, Disp: 32 * i}, acc[i])
	}
	Label("loop")
	SUBQ(Imm(1), n)
	JLT(LabelRef("done"))
	w := YMM()
	VBROADCASTSS(Mem{Base: p}, w)
	for i := range acc {
		m := Mem{Base: rows, Disp: e.bytes(8 * i)}
		if e.goType == "float32" {
			VFMADD231PS(m, w, acc[i])
			continue
		}
		v := YMM()
		VCVTPH2PS(m, v)
		VFMADD231PS(v, w, acc[i])
	}
	for i := 0; i < e.bytes(width); i += 64 {
		PREFETCHT1(Mem{Base: ahead, Disp: i})
	}
	ADDQ(U32(e.bytes(width)), ahead)
	ADDQ(Imm(4), p)
	ADDQ(ld, rows)
	JMP(LabelRef("loop"))
	Label("done")
	for i := range acc {
		VMOVUPS(acc[i], Mem{Base: dst, Disp: 32 * i})
	}
	VZEROUPPER()
	RET()
}

// panelDots writes the products of a vector with the rows of panels: 16 rows are 16 lanes as they lie, so that nothing is
// shuffled, and each product is one chain over ascending k.
func panelDots() {
	TEXT("panelDotsHalf", NOSPLIT, "func(dst, x []float32, panels []uint16, k, n int)")
	Doc("panelDotsHalf sets dst[16*p+j] = chain of fma(x[l], panels[16*(p*k+l)+j], .) over l = 0..k-1 from zero, for j < 16,",
		"p < n; k is a positive multiple of 4. It is panelDotsHalfRef.")
	Pragma("noescape")
	dst, panels := Load(Param("dst").Base(), GP64()), Load(Param("panels").Base(), GP64())
	size, n := Load(Param("k"), GP64()), Load(Param("n"), GP64())
	SHLQ(Imm(5), size) // bytes of a panel
	for _, width := range []int{2, 1} {
		name := fmt.Sprint(width)
		Label("panels" + name)
		CMPQ(n, U32(width))
		JLT(LabelRef("less" + name))
		panelPass(name, width, dst, panels, size)
		SUBQ(U32(width), n)
		JMP(LabelRef("panels" + name))
		Label("less" + name)
	}
	VZEROUPPER()
	RET()
}

// panelPass multiplies by `width` panels and moves on to those after them.
func panelPass(name string, width int, dst, panels, size Register) {
	const unroll = 4
	acc := make([]VecVirtual, 2*width)
	for i := range acc {
		acc[i] = YMM()
		VXORPS(acc[i], acc[i], acc[i])
	}
	x, left := Load(Param("x").Base(), GP64()), Load(Param("k"), GP64())
	Label("steps" + name)
	for l := range unroll {
		b := YMM()
		VBROADCASTSS(Mem{Base: x, Disp: 4 * l}, b)
		for i := range acc {
			at := Mem{Base: panels, Disp: 32*l + 16*(i%2)}
			if i >= 2 {
				at.Index, at.Scale = size, 1
			}
			v := YMM()
			VCVTPH2PS(at, v)
			VFMADD231PS(v, b, acc[i])
		}
	}
	// Each panel is its own stream.
	for i := range width {
		for at := 0; at < 32*unroll; at += 64 {
			m := Mem{Base: panels, Disp: panelAhead + at}
			if i == 1 {
				m.Index, m.Scale = size, 1
			}
			PREFETCHT0(m)
		}
	}
	ADDQ(Imm(32*unroll), panels)
	ADDQ(Imm(4*unroll), x)
	SUBQ(Imm(unroll), left)
	JNE(LabelRef("steps" + name))
	for i := range acc {
		VMOVUPS(acc[i], Mem{Base: dst, Disp: 32 * i})
	}
	ADDQ(U32(64*width), dst)
	if width == 2 {
		ADDQ(size, panels)
	}
}

// panelAhead is how far ahead of where it reads panelDotsHalf asks the memory, in bytes.
const panelAhead = 2048
