// Command panel writes the assembly of package simd that multiplies many tokens by ternary weights.
//
// For many tokens the codes of a row block are first unpacked, one byte a code (level+1), and then met by six tokens at a
// time: for each 4 columns two loads of weights, and for each token one broadcast of 4 activations, two VPMADDUBSW and
// two VPADDW. Nothing but multiply-adds is left in the inner loop.
//
// A panel is 16 rows of one or more blocks of 16*steps columns: 64 bytes for each 4 columns, dword = row. Scales, offsets
// and tokens are those of the R16 layout (see command ternary).
//
// Float sums are on the stack while a panel lasts: the rows of y are often a multiple of a page apart, and would fall
// into one set of the first-level cache.
//
// Bound, for at most 128 columns and activations in [-127, 127]: a 16-bit lane takes 64 products of at most 2*127, which
// are 16,256, and starts at an offset of at most 128*127 = 16,256: 32,512 is below 32,768.
package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	b.ConstraintExpr("amd64,!purego")
	unpack()
	for n := 1; n <= 6; n++ {
		panel(n, false)
		panel(n, true)
	}
	b.Generate()
}

var ymm = []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}

var constants = map[uint32]op.Mem{}

// repeated returns a 32-byte constant of eight equal dwords.
func repeated(bits uint32) op.Mem {
	if m, ok := constants[bits]; ok {
		return m
	}
	m := b.GLOBL(fmt.Sprintf("p%08x", bits), attr.RODATA|attr.NOPTR)
	for i := range 8 {
		b.DATA(4*i, op.U32(bits))
	}
	constants[bits] = m
	return m
}

func at(base reg.Register, disp int) op.Mem { return op.Mem{Base: base, Disp: disp} }

func start(name string, flags attr.Attribute, sig string, doc ...string) {
	b.TEXT(name, flags, sig)
	b.Pragma("noescape")
	b.Doc(doc...)
}

// ahead is how many bytes before they are unpacked codes are fetched: those of the next panel, of 1024 columns.
const ahead = 1024 / 128 * 576

func unpack() {
	start("unpackPanel", attr.NOSPLIT, "func(dst, w []byte, blocks, steps int)",
		"unpackPanel writes the codes of so many blocks of one row block, one byte each, 256*steps bytes a block.")
	dst, w, n, steps, j := reg.RDI, reg.RSI, reg.RCX, reg.RDX, reg.RAX
	b.Load(b.Param("dst").Base(), dst)
	b.Load(b.Param("w").Base(), w)
	b.Load(b.Param("blocks"), n)
	b.Load(b.Param("steps"), steps)
	b.VMOVDQU(repeated(0x03030303), reg.Y15)
	b.Label("block")
	b.MOVQ(steps, j)
	b.Label("step")
	b.PREFETCHT0(at(w, ahead))
	for h := range 2 {
		b.VMOVDQU(at(w, 32*h), ymm[h])
		for f := range 4 {
			v := ymm[h]
			if f > 0 {
				v = ymm[2]
				b.VPSRLW(op.U8(uint64(2*f)), ymm[h], v)
			}
			b.VPAND(v, reg.Y15, ymm[3])
			b.VMOVDQU(ymm[3], at(dst, 64*f+32*h))
		}
	}
	b.ADDQ(op.U8(64), w)
	b.ADDQ(op.U32(256), dst)
	b.DECQ(j)
	b.JNE(op.LabelRef("step"))
	b.ADDQ(op.U8(64), w)
	b.DECQ(n)
	b.JNE(op.LabelRef("block"))
	b.VZEROUPPER()
	b.RET()
}

// rows addresses up to six rows: the first three from base, the others from base3, which is three rows on.
type rows struct{ base, base3, ld reg.GPPhysical }

func (r rows) at(t, disp int) op.Mem {
	m := at(r.base, disp)
	if t >= 3 {
		m = at(r.base3, disp)
	}
	if t%3 > 0 {
		m.Index, m.Scale = r.ld, uint8(t%3)
	}
	return m
}

// strides sets the stride, a parameter in elements of 1<<shift bytes.
func (r rows) strides(stride string, shift uint64) {
	b.Load(b.Param(stride), r.ld)
	if shift > 0 {
		b.SHLQ(op.U8(shift), r.ld)
	}
}

// load sets the bases for n rows, the address of the first of which is in memory.
func (r rows) load(first op.Mem, n int) {
	b.MOVQ(first, r.base)
	if n > 3 {
		b.LEAQ(op.Mem{Base: r.ld, Index: r.ld, Scale: 2}, r.base3)
		b.ADDQ(r.base, r.base3)
	}
}

func (r rows) advance(bytes uint64, n int) {
	b.ADDQ(op.U8(bytes), r.base)
	if n > 3 {
		b.ADDQ(op.U8(bytes), r.base3)
	}
}

var (
	yRows = rows{reg.RDI, reg.R8, reg.R9}
	qRows = rows{reg.RBX, reg.R10, reg.R11}
	oRows = rows{reg.RCX, reg.R12, reg.R13}
)

// panel multiplies n tokens; long is for groups of several blocks, whose 32-bit sums are on the stack.
func panel(n int, long bool) {
	name := fmt.Sprintf("panel%d", n)
	if long {
		name += "Long"
	}
	flags := attr.NOSPLIT
	if long {
		flags = 0 // its frame is too large for that
	}
	start(name, flags, "func(y []float32, ldY int, panel, scales []byte, ldS int, q []int8, ldQ int, offsets []int32, ldO int, act []float32, groups, per, steps, ends int)",
		fmt.Sprintf("%s is panelRef for tiles of %d tokens; len(act) is a multiple of that.", name, n))
	floats, l := b.AllocLocal(64*n), locals{b.AllocLocal(8), b.AllocLocal(8), b.AllocLocal(8), b.AllocLocal(8)}
	var ints, blocks op.Mem
	if long {
		ints, blocks = b.AllocLocal(64*n), b.AllocLocal(8)
	}
	p, s, g, j := reg.RSI, reg.RDX, reg.RAX, reg.R14
	l.start(g)
	yRows.strides("ldY", 2)
	qRows.strides("ldQ", 0)
	oRows.strides("ldO", 2)
	b.Label("tile")
	yRows.load(l.y, n)
	qRows.load(l.q, n)
	oRows.load(l.o, n)
	b.Load(b.Param("panel").Base(), p)
	b.Load(b.Param("scales").Base(), s)
	b.Load(b.Param("ends"), g)
	b.TESTQ(op.U32(1), g)
	b.JEQ(op.LabelRef("goOn"))
	b.VXORPS(reg.Y0, reg.Y0, reg.Y0)
	for i := range 2 * n {
		b.VMOVUPS(reg.Y0, floats.Offset(32*i))
	}
	b.JMP(op.LabelRef("started"))
	b.Label("goOn")
	for i := range 2 * n {
		b.VMOVUPS(yRows.at(i/2, 32*(i%2)), reg.Y0)
		b.VMOVUPS(reg.Y0, floats.Offset(32*i))
	}
	b.Label("started")
	b.Load(b.Param("groups"), g)
	b.Label("group")
	if long {
		b.VPXOR(reg.Y0, reg.Y0, reg.Y0)
		for i := range 2 * n {
			b.VMOVDQU(reg.Y0, ints.Offset(32*i))
		}
		b.Load(b.Param("per"), j)
		b.MOVQ(j, blocks)
		b.Label("block")
	}
	for t := range n {
		b.VPBROADCASTD(oRows.at(t, 0), ymm[2*t])
		b.VMOVDQA(ymm[2*t], ymm[2*t+1])
	}
	b.Load(b.Param("steps"), j)
	b.Label("step")
	for f := range 4 {
		quad(p, n, f)
	}
	b.ADDQ(op.U32(256), p)
	qRows.advance(16, n)
	b.DECQ(j)
	b.JNE(op.LabelRef("step"))
	oRows.advance(4, n)
	for i := range 2 * n {
		b.VPMADDWD(repeated(0x00010001), ymm[i], ymm[i])
		if long {
			b.VPADDD(ints.Offset(32*i), ymm[i], ymm[i])
		}
	}
	if long {
		b.DECQ(blocks)
		b.JEQ(op.LabelRef("scale"))
		for i := range 2 * n {
			b.VMOVDQU(ymm[i], ints.Offset(32*i))
		}
		b.JMP(op.LabelRef("block"))
		b.Label("scale")
	}
	b.VMOVUPS(at(s, 0), reg.Y12)
	b.VMOVUPS(at(s, 32), reg.Y13)
	b.Load(b.Param("ldS"), j)
	b.ADDQ(j, s)
	for i := range 2 * n {
		b.VCVTDQ2PS(ymm[i], ymm[i])
		b.VFMADD213PS(floats.Offset(32*i), ymm[12+i%2], ymm[i])
		b.VMOVUPS(ymm[i], floats.Offset(32*i))
	}
	b.DECQ(g)
	b.JNE(op.LabelRef("group"))
	b.Load(b.Param("ends"), g)
	b.TESTQ(op.U32(2), g)
	b.JEQ(op.LabelRef("store"))
	b.MOVQ(l.act, p)
	for i := range 2 * n {
		if i%2 == 0 {
			b.VBROADCASTSS(at(p, 2*i), reg.Y12)
		}
		b.VMULPS(reg.Y12, ymm[i], ymm[i])
	}
	b.Label("store")
	for i := range 2 * n {
		b.VMOVUPS(ymm[i], yRows.at(i/2, 32*(i%2)))
	}
	l.next(n, p, s)
	b.VZEROUPPER()
	b.RET()
}

// locals are the first rows of the next tile, and where the activation scale is.
type locals struct{ y, q, o, act op.Mem }

func (l locals) start(tmp reg.GPPhysical) {
	for _, v := range []struct {
		name string
		to   op.Mem
	}{{"y", l.y}, {"q", l.q}, {"offsets", l.o}, {"act", l.act}} {
		b.Load(b.Param(v.name).Base(), tmp)
		b.MOVQ(tmp, v.to)
	}
}

// next goes to the next tile of n tokens, if there is one.
func (l locals) next(n int, tmp, end reg.GPPhysical) {
	for _, v := range []struct {
		ld reg.GPPhysical
		to op.Mem
	}{{yRows.ld, l.y}, {qRows.ld, l.q}, {oRows.ld, l.o}} {
		b.IMUL3Q(op.U8(uint64(n)), v.ld, tmp)
		b.ADDQ(tmp, v.to)
	}
	b.ADDQ(op.U8(uint64(4*n)), l.act)
	b.Load(b.Param("act").Base(), tmp)
	b.Load(b.Param("act").Len(), end)
	b.LEAQ(op.Mem{Base: tmp, Index: end, Scale: 4}, end)
	b.CMPQ(end, l.act)
	b.JHI(op.LabelRef("tile"))
}

// quad is four columns of all tokens.
func quad(p reg.Register, n, f int) {
	b.VMOVDQU(at(p, 64*f), reg.Y12)
	b.VMOVDQU(at(p, 64*f+32), reg.Y13)
	for t := range n {
		b.VPBROADCASTD(qRows.at(t, 4*f), reg.Y14)
		b.VPMADDUBSW(reg.Y14, reg.Y12, reg.Y15)
		b.VPADDW(reg.Y15, ymm[2*t], ymm[2*t])
		b.VPMADDUBSW(reg.Y14, reg.Y13, reg.Y14)
		b.VPADDW(reg.Y14, ymm[2*t+1], ymm[2*t+1])
	}
}
