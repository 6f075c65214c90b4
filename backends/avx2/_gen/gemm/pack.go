package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// packCopy writes the packing of adjacent columns of a row-major matrix, row by row, so that reading is sequential.
func packCopy() {
	TEXT("packCopy16", NOSPLIT, "func(dst []float32, stride int, src []float32, ld, k, panels int)")
	Doc("packCopy16 packs panels of 16 adjacent columns: dst[p*stride+16*l+j] = src[l*ld+16*p+j] for l < k, j < 16,",
		"p < panels; k, panels >= 1. It is packSliversRef with 16 columns.")
	Pragma("noescape")
	dst, src := Load(Param("dst").Base(), GP64()), Load(Param("src").Base(), GP64())
	stride, ld := byteStride("stride"), byteStride("ld")
	k, panels := Load(Param("k"), GP64()), Load(Param("panels"), GP64())
	p, d, n := GP64(), GP64(), GP64()
	Label("row")
	MOVQ(dst, d)
	MOVQ(src, p)
	MOVQ(panels, n)
	Label("panel")
	x, y := YMM(), YMM()
	VMOVUPS(Mem{Base: p}, x)
	VMOVUPS(Mem{Base: p, Disp: 32}, y)
	VMOVUPS(x, Mem{Base: d})
	VMOVUPS(y, Mem{Base: d, Disp: 32})
	PREFETCHT0(Mem{Base: p, Index: ld, Scale: 8})
	ADDQ(stride, d)
	ADDQ(Imm(64), p)
	DECQ(n)
	JNE(LabelRef("panel"))
	ADDQ(ld, src)
	ADDQ(Imm(64), dst)
	DECQ(k)
	JNE(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// copyRows writes the copying of rows that lie far apart. Each is a page of its own as a rule, which no hardware fetches
// ahead: the row four further on is fetched meanwhile.
func copyRows() {
	TEXT("copyRows", NOSPLIT, "func(dst []float32, stride int, src []float32, ld, k, rows int)")
	Doc("copyRows copies rows: dst[i*stride+l] = src[i*ld+l] for l < k, i < rows; k >= 8, rows >= 1.")
	Pragma("noescape")
	dst, src := Load(Param("dst").Base(), GP64()), Load(Param("src").Base(), GP64())
	stride, ld, k := byteStride("stride"), byteStride("ld"), byteStride("k")
	rows := Load(Param("rows"), GP64())
	i, last, ahead := GP64(), GP64(), GP64()
	LEAQ(Mem{Base: k, Disp: -32}, last)
	Label("row")
	LEAQ(Mem{Base: src, Index: ld, Scale: 4}, ahead)
	XORQ(i, i)
	x, y := YMM(), YMM()
	Label("pair")
	PREFETCHT0(Mem{Base: ahead, Index: i, Scale: 1})
	CMPQ(i, last)
	JGE(LabelRef("end"))
	VMOVUPS(Mem{Base: src, Index: i, Scale: 1}, x)
	VMOVUPS(x, Mem{Base: dst, Index: i, Scale: 1})
	ADDQ(Imm(32), i)
	CMPQ(i, last)
	JGE(LabelRef("end"))
	VMOVUPS(Mem{Base: src, Index: i, Scale: 1}, y)
	VMOVUPS(y, Mem{Base: dst, Index: i, Scale: 1})
	ADDQ(Imm(32), i)
	JMP(LabelRef("pair"))
	Label("end") // the last eight, which may overlap those before
	VMOVUPS(Mem{Base: src, Index: last, Scale: 1}, x)
	VMOVUPS(x, Mem{Base: dst, Index: last, Scale: 1})
	ADDQ(ld, src)
	ADDQ(stride, dst)
	DECQ(rows)
	JNE(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// packTranspose writes the packing of 16 rows, by 8x8 transposes in registers.
func packTranspose() {
	TEXT("packTranspose16", NOSPLIT, "func(dst, src []float32, ld, k int)")
	Doc("packTranspose16 transposes 16 rows: dst[16*l+j] = src[j*ld+l] for l < k, k a positive multiple of 8.",
		"It is packTransposeRef with 16 rows.")
	Pragma("noescape")
	dst, src := Load(Param("dst").Base(), GP64()), Load(Param("src").Base(), GP64())
	ld := byteStride("ld")
	k := Load(Param("k"), GP64())
	ld3, low, high := GP64(), GP64(), GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	LEAQ(Mem{Base: src, Index: ld, Scale: 8}, high)
	MOVQ(src, low)
	Label("loop")
	transpose8(dst, low, ld, ld3, 0)
	transpose8(dst, high, ld, ld3, 32)
	ADDQ(Imm(32), low)
	ADDQ(Imm(32), high)
	ADDQ(U32(512), dst)
	SUBQ(Imm(8), k)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// transpose8 stores an 8x8 block as columns 64 bytes apart. Halves of rows r and r+4 are joined while they are loaded,
// which leaves 16 shuffles.
func transpose8(dst, src, ld, ld3 Register, disp int) {
	src4 := GP64()
	LEAQ(Mem{Base: src, Index: ld, Scale: 4}, src4)
	row := func(base Register, r, d int) Mem {
		switch r {
		case 0:
			return Mem{Base: base, Disp: d}
		case 3:
			return Mem{Base: base, Index: ld3, Scale: 1, Disp: d}
		default:
			return Mem{Base: base, Index: ld, Scale: uint8(r), Disp: d}
		}
	}
	for half := range 2 {
		var in [4]VecVirtual
		for r := range in {
			in[r] = YMM()
			VBROADCASTF128(row(src, r, 16*half), in[r])
			VINSERTF128(Imm(1), row(src4, r, 16*half), in[r], in[r])
		}
		t := [4]VecVirtual{YMM(), YMM(), YMM(), YMM()}
		VUNPCKLPS(in[1], in[0], t[0])
		VUNPCKHPS(in[1], in[0], t[1])
		VUNPCKLPS(in[3], in[2], t[2])
		VUNPCKHPS(in[3], in[2], t[3])
		for c := range 4 {
			o := YMM()
			mask := uint64(0x44)
			if c%2 == 1 {
				mask = 0xEE
			}
			VSHUFPS(Imm(mask), t[2+c/2], t[c/2], o)
			VMOVUPS(o, Mem{Base: dst, Disp: disp + 64*(4*half+c)})
		}
	}
}

// packSlivers writes the packing of a transposed left operand into slivers of as many rows as a tile has.
func packSlivers(rows int) {
	name := fmt.Sprintf("packSlivers%d", rows)
	TEXT(name, NOSPLIT, "func(dst []float32, stride int, src []float32, ld, k, slivers int)")
	Doc(fmt.Sprintf("%s packs slivers of %d adjacent columns: dst[s*stride+%[2]d*l+i] = src[l*ld+%[2]d*s+i] for l < k, i < %[2]d,", name, rows),
		fmt.Sprintf("s < slivers; k, slivers >= 1. It is packSliversRef with %d columns. Eight rows at a time, so that a line of src is", rows),
		"used up while it is near.")
	Pragma("noescape")
	dst, src := Load(Param("dst").Base(), GP64()), Load(Param("src").Base(), GP64())
	stride, ld := byteStride("stride"), byteStride("ld")
	k := Load(Param("k"), GP64())
	n, s, d, p, q, i := GP64(), GP64(), GP64(), GP64(), GP64(), GP64()
	Label("rows")
	MOVQ(U32(8), n)
	CMPQ(k, n)
	CMOVQLT(k, n)
	Load(Param("slivers"), s)
	MOVQ(dst, d)
	MOVQ(src, p)
	Label("sliver")
	e := GP64()
	MOVQ(d, e)
	MOVQ(p, q)
	MOVQ(n, i)
	Label("loop")
	PREFETCHT0(Mem{Base: q, Index: ld, Scale: 8})
	copySliver(rows, q, e)
	ADDQ(ld, q)
	ADDQ(Imm(uint64(4*rows)), e)
	DECQ(i)
	JNE(LabelRef("loop"))
	ADDQ(stride, d)
	ADDQ(Imm(uint64(4*rows)), p)
	DECQ(s)
	JNE(LabelRef("sliver"))
	MOVQ(q, src)
	IMUL3Q(U32(4*rows), n, e)
	ADDQ(e, dst)
	// q ran down the last sliver's columns: go back to the first.
	IMUL3Q(U32(4*rows), Load(Param("slivers"), s), s)
	SUBQ(s, src)
	ADDQ(Imm(uint64(4*rows)), src)
	SUBQ(n, k)
	JNE(LabelRef("rows"))
	VZEROUPPER()
	RET()
}

// copySliver copies 6 or 12 floats: a vector and one half as long.
func copySliver(rows int, from, to Register) {
	v := YMM()
	if rows == 6 {
		VMOVUPS(Mem{Base: from}, v.AsX())
		VMOVUPS(v.AsX(), Mem{Base: to})
		VMOVSD(Mem{Base: from, Disp: 16}, v.AsX())
		VMOVSD(v.AsX(), Mem{Base: to, Disp: 16})
		return
	}
	VMOVUPS(Mem{Base: from}, v)
	VMOVUPS(v, Mem{Base: to})
	VMOVUPS(Mem{Base: from, Disp: 32}, v.AsX())
	VMOVUPS(v.AsX(), Mem{Base: to, Disp: 32})
}

// fmaPeak writes a loop that never leaves the registers: the limit that a matrix product is measured against.
func fmaPeak() {
	TEXT("FMAPeak", NOSPLIT, "func(iters int)")
	Doc("FMAPeak runs iters rounds of 24 independent 8-lane multiply-adds in registers: 384 operations a round, the",
		"machine's limit for one thread. iters >= 1.")
	n := Load(Param("iters"), GP64())
	var acc [12]VecVirtual
	x, y := YMM(), YMM()
	VXORPS(x, x, x)
	VXORPS(y, y, y)
	for i := range acc {
		acc[i] = YMM()
		VXORPS(acc[i], acc[i], acc[i])
	}
	Label("loop")
	for range 2 {
		for i := range acc {
			VFMADD231PS(x, y, acc[i])
		}
	}
	DECQ(n)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
