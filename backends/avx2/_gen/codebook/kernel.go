package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of bookArgs, which a test of package simd checks.
const (
	argY      = 0
	argW      = 8
	argQ      = 16
	argAbs    = 24
	argO      = 32
	argAct    = 40
	argBook   = 48
	argLdY    = 56
	argLdQ    = 64
	argLdO    = 72
	argRows   = 80
	argGroups = 88
	argChunks = 96
	argStep   = 104
)

const (
	columns  = 32   // of a chunk
	halves   = 2    // vectors of 8 rows in a row block
	meetings = 8    // of a vector of rows with 4 columns, in a chunk
	ahead    = 3072 // bytes of codes that the one-token kernels prefetch
)

var ymm = []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}

// Registers. Y0-Y7 are sums.
var (
	level          = ymm[8:10] // u or l of each half
	act, magnitude = reg.Y10, reg.Y11
	product, ones  = reg.Y12, reg.Y13
	book, mask     = reg.Y14, reg.Y15
	c, y, p        = reg.RDI, reg.RSI, reg.RAX
	q, abs, o      = reg.RBX, reg.RCX, reg.RDX
	g, n, rows     = reg.R8, reg.R9, reg.R10
	ldQ            = [2]reg.Register{reg.R11, reg.R12}
	ld             = [2]reg.Register{reg.R13, reg.R14}
	constants      = map[uint32]op.Mem{}
)

// kernel is one routine: tokens at once against all row blocks.
type kernel struct {
	bits   int
	kind   string
	tokens int
	sums   []reg.VecPhysical // 32 bits, by token*halves + half; nil if on the stack
	short  []reg.VecPhysical // 16 bits, for the kinds that add in them
	ints   op.Mem            // the 32-bit sums on the stack
	floats op.Mem            // the sums over groups
}

// repeated returns a 32-byte constant of eight equal dwords.
func repeated(bits uint32) op.Mem {
	if m, ok := constants[bits]; ok {
		return m
	}
	m := b.GLOBL(fmt.Sprintf("cb%08x", bits), attr.RODATA|attr.NOPTR)
	for i := range 8 {
		b.DATA(4*i, op.U32(bits))
	}
	constants[bits] = m
	return m
}

func at(base reg.Register, disp int) op.Mem { return op.Mem{Base: base, Disp: disp} }

// strided addresses row t < 4 of a matrix whose row length in bytes and three times it are in ld.
func strided(base reg.Register, ld [2]reg.Register, t, disp int) op.Mem {
	m := op.Mem{Base: base, Disp: disp}
	switch t {
	case 1, 2:
		m.Index, m.Scale = ld[0], uint8(t)
	case 3:
		m.Index, m.Scale = ld[1], 1
	}
	return m
}

// stride loads a row length in bytes and three times it.
func (k *kernel) stride(arg int, ld [2]reg.Register) {
	if k.tokens == 1 {
		return
	}
	b.MOVQ(at(c, arg), ld[0])
	b.LEAQ(op.Mem{Base: ld[0], Index: ld[0], Scale: 2}, ld[1])
}

// adds says whether the kind adds a chunk in 16 bits.
func (k *kernel) adds() bool { return k.kind == "Linear" || k.kind == "Eight" }

func (k *kernel) pairs() int { return k.tokens * halves }

func (k *kernel) place() {
	switch {
	case k.adds() && k.tokens == 4:
		k.short = ymm[:8]
		k.ints = b.AllocLocal(32 * k.pairs())
	case k.adds():
		k.sums, k.short = ymm[:k.pairs()], ymm[4:4+k.pairs()]
	default:
		k.sums = ymm[:k.pairs()]
	}
	k.floats = b.AllocLocal(32 * k.pairs())
}

func (k *kernel) emit() {
	name := fmt.Sprintf("book%d%s%d", k.bits, k.kind, k.tokens)
	b.TEXT(name, attr.NOSPLIT, "func(c *[14]uint64)")
	b.Pragma("noescape")
	b.Doc(fmt.Sprintf("%s is bookBlocksRef for %d tokens; c is a bookArgs.", name, k.tokens))
	k.place()
	b.Load(b.Param("c"), c)
	b.MOVQ(at(c, argY), y)
	b.MOVQ(at(c, argW), p)
	b.MOVQ(at(c, argRows), rows)
	k.stride(argLdQ, ldQ)
	b.MOVQ(at(c, argBook), n)
	b.VMOVDQU(at(n, 0), book)
	b.VMOVDQU(repeated(k.lowField()), mask)
	b.VMOVDQU(repeated(0x00010001), ones)
	b.TESTQ(rows, rows)
	b.JEQ(op.LabelRef("done"))
	b.Label("row")
	b.MOVQ(at(c, argQ), q)
	b.MOVQ(at(c, argAbs), abs)
	b.MOVQ(at(c, argO), o)
	b.MOVQ(at(c, argGroups), g)
	b.VPXOR(product, product, product)
	for i := range k.pairs() {
		b.VMOVDQU(product, k.floats.Offset(32*i))
	}
	b.Label("group")
	k.clear()
	b.MOVQ(at(c, argChunks), n)
	b.Label("chunk")
	k.chunk()
	b.ADDQ(op.U32(64*k.bits), p)
	b.ADDQ(op.U8(columns), q)
	b.ADDQ(op.U8(columns), abs)
	b.DECQ(n)
	b.JNE(op.LabelRef("chunk"))
	k.endGroup()
	b.DECQ(g)
	b.JNE(op.LabelRef("group"))
	k.store()
	b.DECQ(rows)
	b.JNE(op.LabelRef("row"))
	b.Label("done")
	b.VZEROUPPER()
	b.RET()
}

func (k *kernel) lowField() uint32 { return 0x01010101 * (1<<k.bits - 1) }

// clear sets the 32-bit sums of a group to zero.
func (k *kernel) clear() {
	for _, s := range k.sums {
		b.VPXOR(s, s, s)
	}
	if k.sums == nil {
		b.VPXOR(product, product, product)
		for i := range k.pairs() {
			b.VMOVDQU(product, k.ints.Offset(32*i))
		}
	}
}

// chunk adds 32 columns.
func (k *kernel) chunk() {
	if k.tokens == 1 {
		for line := range k.bits {
			b.PREFETCHT0(at(p, ahead+64*line))
		}
	}
	fields := 8 / k.bits
	for j := range meetings {
		for h := range halves {
			k.decode(at(p, j/fields*64+32*h), j%fields, level[h])
		}
		for t := range k.tokens {
			b.VPBROADCASTD(strided(q, ldQ, t, 4*j), act)
			if k.kind == "Signed" {
				b.VPBROADCASTD(strided(abs, ldQ, t, 4*j), magnitude)
			}
			for h := range halves {
				k.meet(j, t*halves+h, level[h])
			}
		}
	}
	if k.adds() {
		k.widen()
	}
}

// decode turns a field of the codes at m into levels.
func (k *kernel) decode(m op.Mem, field int, to reg.VecPhysical) {
	if k.bits == 8 {
		b.VMOVDQU(m, to)
		return
	}
	if k.bits == 2 && k.kind != "Linear" {
		k.decodeQuads(m, field, to)
		return
	}
	if field == 0 {
		b.VPAND(m, mask, to)
	} else {
		b.VMOVDQU(m, to)
		b.VPSRLW(op.U8(k.bits*field), to, to)
		b.VPAND(to, mask, to)
	}
	if k.kind != "Linear" {
		b.VPSHUFB(to, book, to)
	}
}

// decodeQuads spares a shift: the book has the level of code i at i and at 4*i.
func (k *kernel) decodeQuads(m op.Mem, field int, to reg.VecPhysical) {
	switch field {
	case 0:
		b.VPAND(m, mask, to)
	case 1:
		b.VMOVDQU(m, to)
		b.VPAND(repeated(0x0c0c0c0c), to, to)
	default:
		b.VMOVDQU(m, to)
		b.VPSRLW(op.U8(4), to, to)
		if field == 2 {
			b.VPAND(to, mask, to)
		} else {
			b.VPAND(repeated(0x0c0c0c0c), to, to)
		}
	}
	b.VPSHUFB(to, book, to)
}

// meet adds one vector of levels times act to the sums of pair i.
func (k *kernel) meet(j, i int, l reg.VecPhysical) {
	switch {
	case k.adds() && j == 0:
		b.VPMADDUBSW(act, l, k.short[i])
		return
	case k.adds():
		b.VPMADDUBSW(act, l, product)
		b.VPADDW(product, k.short[i], k.short[i])
		return
	case k.kind == "One":
		b.VPMADDUBSW(act, l, product)
	default:
		b.VPSIGNB(act, l, product)
		b.VPMADDUBSW(product, magnitude, product)
	}
	b.VPMADDWD(ones, product, product)
	b.VPADDD(product, k.sums[i], k.sums[i])
}

// widen moves the 16-bit sums of a chunk to the 32-bit ones.
func (k *kernel) widen() {
	for i, s := range k.short {
		b.VPMADDWD(ones, s, s)
		if k.sums != nil {
			b.VPADDD(s, k.sums[i], k.sums[i])
			continue
		}
		b.VPADDD(k.ints.Offset(32*i), s, s)
		b.VMOVDQU(s, k.ints.Offset(32*i))
	}
}

// endGroup adds a group's sums, with the offset undone, times its scales.
func (k *kernel) endGroup() {
	k.stride(argLdO, ld)
	b.VMOVUPS(at(p, 0), level[0])
	b.VMOVUPS(at(p, 32), level[1])
	if k.kind == "Linear" {
		b.VPBROADCASTD(at(c, argStep), magnitude)
	}
	for t := range k.tokens {
		if k.kind != "Signed" {
			b.VPBROADCASTD(strided(o, ld, t, 0), act)
		}
		for h := range halves {
			i := t*halves + h
			s := product
			switch {
			case k.sums != nil && k.kind == "Linear":
				b.VPMULLD(magnitude, k.sums[i], s)
			case k.sums != nil:
				s = k.sums[i]
			case k.kind == "Linear":
				b.VPMULLD(k.ints.Offset(32*i), magnitude, s)
			default:
				b.VMOVDQU(k.ints.Offset(32*i), s)
			}
			if k.kind != "Signed" {
				b.VPADDD(act, s, s)
			}
			b.VCVTDQ2PS(s, s)
			b.VFMADD213PS(k.floats.Offset(32*i), level[h], s)
			b.VMOVUPS(s, k.floats.Offset(32*i))
		}
	}
	b.ADDQ(op.U8(64), p)
	b.ADDQ(op.U8(4), o)
}

// store scales the sums of a row block by the tokens' scales.
func (k *kernel) store() {
	k.stride(argLdY, ld)
	b.MOVQ(at(c, argAct), n)
	for t := range k.tokens {
		b.VBROADCASTSS(at(n, 4*t), act)
		for h := range halves {
			b.VMULPS(k.floats.Offset(32*(t*halves+h)), act, product)
			b.VMOVUPS(product, strided(y, ld, t, 32*h))
		}
	}
	b.ADDQ(op.U8(64), y)
}
