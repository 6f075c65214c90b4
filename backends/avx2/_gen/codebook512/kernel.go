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
	argY        = 0
	argW        = 8
	argQ        = 16
	argO        = 32
	argAct      = 40
	argBook     = 48
	argLdY      = 56
	argLdQ      = 64
	argLdO      = 72
	argRows     = 80
	argGroups   = 88
	argChunks   = 96
	argTokens   = 112
	argRowBlock = 120
)

const (
	columns  = 32   // of a chunk
	meetings = 8    // of the 16 rows with 4 columns, in a chunk
	ahead    = 6144 // bytes of codes that one token prefetches
)

// sizes are the numbers of tokens that meet the codes together, as bookTokens512 of package simd lists them.
var sizes = []int{12, 8, 6, 4, 3, 2, 1}

// pairs is the number of tokens from which on two row blocks share the loads of activations.
const pairs = 2

// Registers. Z0-Z23 are integer sums; those that fewer tokens leave keep other things.
var (
	zmm = []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23, reg.Z24, reg.Z25, reg.Z26, reg.Z27,
	}
	tables     = zmm[24:28] // one for each field that needs no shift; of bytes, the bits to turn
	level      = [2]reg.VecPhysical{reg.Z28, reg.Z29}
	act        = reg.Z31
	c, y, p    = reg.RDI, reg.RSI, reg.RAX
	q          = [3]reg.Register{reg.RBX, reg.RCX, reg.RDX} // tokens 0, 4 and 8
	ldQ        = [2]reg.Register{reg.R9, reg.R10}           // a token's distance and three times it
	n, g, rows = reg.R11, reg.R12, reg.R13
	rowBlock   = reg.R8
	walk       = reg.R14
)

// kernel is one routine: any of the sizes, each a path of its own.
type kernel struct{ bits int }

// path is what a routine does for so many tokens and row blocks.
type path struct {
	kernel
	tokens, blocks int
	parts          int // sums of a row block's token, so that successive VPDPBUSD do not wait for each other
}

func at(base reg.Register, disp int) op.Mem { return op.Mem{Base: base, Disp: disp} }

func (k kernel) emit() {
	name := fmt.Sprintf("book%dVNNI", k.bits)
	b.TEXT(name, attr.NOSPLIT, "func(c *[16]uint64)")
	b.Pragma("noescape")
	b.Doc(fmt.Sprintf("%s is bookBlocksRef for 1, 2, 3, 4, 6, 8 or 12 tokens; c is a bookArgs.", name))
	b.Load(b.Param("c"), c)
	b.MOVQ(at(c, argY), y)
	b.MOVQ(at(c, argW), p)
	b.MOVQ(at(c, argRows), rows)
	b.MOVQ(at(c, argRowBlock), rowBlock)
	b.MOVQ(at(c, argLdQ), ldQ[0])
	b.LEAQ(op.Mem{Base: ldQ[0], Index: ldQ[0], Scale: 2}, ldQ[1])
	b.MOVQ(at(c, argBook), n)
	for i := range k.tables() {
		b.VMOVDQU64(at(n, 64*i), tables[i])
	}
	b.TESTQ(rows, rows)
	b.JEQ(op.LabelRef("done"))
	b.MOVQ(at(c, argTokens), n)
	for _, tokens := range sizes {
		b.CMPQ(n, op.U8(tokens))
		b.JEQ(op.LabelRef(k.first(tokens).label("row")))
	}
	b.JMP(op.LabelRef("done"))
	for _, tokens := range sizes {
		if t := k.first(tokens); t.blocks == 2 {
			t.emit()
		}
		k.single(tokens).emit()
	}
	b.Label("done")
	b.VZEROUPPER()
	b.RET()
}

// first is the path that so many tokens take while there are rows for it.
func (k kernel) first(tokens int) path {
	if tokens >= pairs {
		return path{kernel: k, tokens: tokens, blocks: 2, parts: max(1, 8/tokens)}
	}
	return k.single(tokens)
}

// single is the path of a row block alone.
func (k kernel) single(tokens int) path {
	return path{kernel: k, tokens: tokens, blocks: 1, parts: max(1, min(4, 16/tokens))}
}

// tables is the number of fields that are looked up where they are, and 1 for bytes.
func (k kernel) tables() int { return max(1, min(4, 6/k.bits)) }

// sum is a part of the integer sums of a row block and a token.
func (t path) sum(block, token, part int) reg.VecPhysical {
	return zmm[(block*t.tokens+token)*t.parts+part]
}

// inRegisters says whether the sums over groups are; else they are in y.
func (t path) inRegisters() bool { return t.blocks == 1 && t.tokens <= 8 }

func float(token int) reg.VecPhysical { return zmm[16+token] }

// label makes a name of the path's own.
func (t path) label(name string) string { return fmt.Sprintf("%s%dx%d", name, t.blocks, t.tokens) }

// bases is the number of pointers to activations.
func (t path) bases() int { return (t.tokens + 3) / 4 }

func (t path) emit() {
	b.Label(t.label("row"))
	if t.blocks == 2 {
		b.CMPQ(rows, op.U8(2))
		b.JLT(op.LabelRef(t.single(t.tokens).label("row")))
	}
	b.MOVQ(at(c, argQ), q[0])
	for i := 1; i < t.bases(); i++ {
		b.LEAQ(op.Mem{Base: q[i-1], Index: ldQ[0], Scale: 4}, q[i])
	}
	t.start()
	b.XORQ(g, g)
	b.Label(t.label("group"))
	t.offsets()
	b.MOVQ(at(c, argChunks), n)
	b.Label(t.label("chunk"))
	t.chunk()
	b.ADDQ(op.U32(64*t.bits), p)
	for i := range t.bases() {
		b.ADDQ(op.U8(columns), q[i])
	}
	b.DECQ(n)
	b.JNE(op.LabelRef(t.label("chunk")))
	t.endGroup()
	b.INCQ(g)
	b.CMPQ(g, at(c, argGroups))
	b.JNE(op.LabelRef(t.label("group")))
	t.store()
	if t.blocks == 2 {
		b.ADDQ(rowBlock, p)
	}
	b.SUBQ(op.U8(t.blocks), rows)
	b.JNE(op.LabelRef(t.label("row")))
	b.JMP(op.LabelRef("done"))
}

// zero clears a register, by the encoding that the processor does without computing where there is one.
func zero(v reg.VecPhysical) {
	if v.PhysicalIndex() < 16 {
		b.VPXOR(v.AsY(), v.AsY(), v.AsY())
		return
	}
	b.VPXORD(v, v, v)
}

// start sets the sums over groups to zero.
func (t path) start() {
	if t.inRegisters() {
		for i := range t.tokens {
			zero(float(i))
		}
		return
	}
	zero(zmm[0])
	t.eachRow(func(_, _ int, m op.Mem) { b.VMOVUPS(zmm[0], m) })
}

// eachRow calls do with the memory of every token's 16 results of every row block.
func (t path) eachRow(do func(block, token int, m op.Mem)) {
	b.MOVQ(y, walk)
	for i := range t.tokens {
		if i > 0 {
			b.ADDQ(at(c, argLdY), walk)
		}
		for block := range t.blocks {
			do(block, i, at(walk, 64*block))
		}
	}
}

// offsets starts the integer sums of group g.
func (t path) offsets() {
	b.MOVQ(at(c, argO), walk)
	b.LEAQ(op.Mem{Base: walk, Index: g, Scale: 4}, walk)
	for i := range t.tokens {
		if i > 0 {
			b.ADDQ(at(c, argLdO), walk)
		}
		for block := range t.blocks {
			b.VPBROADCASTD(at(walk, 0), t.sum(block, i, 0))
			for part := 1; part < t.parts; part++ {
				zero(t.sum(block, i, part))
			}
		}
	}
}

// chunk adds 32 columns.
func (t path) chunk() {
	if t.tokens == 1 && t.bits < 8 { // bytes are as many as the memory gives, asked for or not
		for line := range t.bits {
			b.PREFETCHT0(at(p, ahead+64*line))
		}
	}
	fields := 8 / t.bits
	for j := range meetings {
		for block := range t.blocks {
			m := at(p, j/fields*64)
			if block == 1 {
				m.Index, m.Scale = rowBlock, 1
			}
			t.decode(block, m, j%fields)
		}
		for i := range t.tokens {
			m := activations(i, 4*j)
			if t.blocks == 1 {
				b.VPDPBUSD_BCST(m, level[0], t.sum(0, i, j%t.parts))
				continue
			}
			b.VPBROADCASTD(m, act)
			for block := range t.blocks {
				b.VPDPBUSD(act, level[block], t.sum(block, i, j%t.parts))
			}
		}
	}
}

// activations addresses four of a token, disp columns on.
func activations(token, disp int) op.Mem {
	m := op.Mem{Base: q[token/4], Disp: disp}
	switch token % 4 {
	case 1, 2:
		m.Index, m.Scale = ldQ[0], uint8(token%4)
	case 3:
		m.Index, m.Scale = ldQ[1], 1
	}
	return m
}

// decode turns a field of a row block's codes at m into levels. Fields come in ascending order.
func (t path) decode(block int, m op.Mem, field int) {
	if t.bits == 8 {
		b.VPXORD(m, tables[0], level[block])
		return
	}
	codes, kept := t.codes(block)
	moved, table := 8/t.bits-t.tables(), field
	if field >= t.tables() {
		table -= moved
	}
	switch {
	case field == t.tables() || !kept && field > t.tables():
		b.VPSRLW(op.U8(t.bits*moved), m, codes)
	case field == 0 || !kept:
		b.VMOVDQU64(m, codes)
	}
	b.VPERMB(tables[table], codes, level[block])
}

// codes is the register that holds a row block's codes, and whether it keeps them from one field to the next.
func (t path) codes(block int) (v reg.VecPhysical, kept bool) {
	switch {
	case t.blocks == 1:
		return reg.Z30, true
	case t.tokens <= 8:
		return zmm[22+block], true
	}
	return level[block], false
}

// endGroup adds a group's sums times its scales.
func (t path) endGroup() {
	scale := level
	b.VMOVUPS(at(p, 0), scale[0])
	if t.blocks == 2 {
		b.VMOVUPS(op.Mem{Base: p, Index: rowBlock, Scale: 1}, scale[1])
	}
	for block := range t.blocks {
		for i := range t.tokens {
			t.addParts(block, i)
			b.VCVTDQ2PS(t.sum(block, i, 0), t.sum(block, i, 0))
			if t.inRegisters() {
				b.VFMADD231PS(t.sum(block, i, 0), scale[block], float(i))
			}
		}
	}
	if !t.inRegisters() {
		t.eachRow(func(block, i int, m op.Mem) {
			b.VFMADD213PS(m, scale[block], t.sum(block, i, 0))
			b.VMOVUPS(t.sum(block, i, 0), m)
		})
	}
	b.ADDQ(op.U8(64), p)
}

// addParts adds the parts of an integer sum.
func (t path) addParts(block, i int) {
	for step := 1; step < t.parts; step *= 2 {
		for part := 0; part+step < t.parts; part += 2 * step {
			to := t.sum(block, i, part)
			b.VPADDD(t.sum(block, i, part+step), to, to)
		}
	}
}

// store scales the sums of the row blocks by the tokens' scales.
func (t path) store() {
	b.MOVQ(at(c, argAct), n)
	t.eachRow(func(_, i int, m op.Mem) {
		sum := act
		if t.inRegisters() {
			sum = float(i)
		} else {
			b.VMOVUPS(m, sum)
		}
		b.VMULPS_BCST(at(n, 4*i), sum, sum)
		b.VMOVUPS(sum, m)
	})
	b.ADDQ(op.U8(64*t.blocks), y)
}
