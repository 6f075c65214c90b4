package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tile multiplies n tokens by one packed row block or two at a time. A token has so many sums for a row block, for as many
// chains of VPDPBUSD.
type tile struct{ n, sums, halves int }

// ahead is how many bytes before their use codes are fetched.
const ahead = 8192

// The registers of a tile, besides its sums in Z0 to Z23 and those of rows and chains.
var (
	code, field                     = zmm[24:26], zmm[26:28] // of the row blocks
	lowest                          = reg.Z31                // the mask of field 0
	weights, offsets, steps, blocks = reg.RSI, reg.RCX, reg.RAX, reg.RDX
	groups, ptr, next               = reg.R9, reg.R14, reg.R15
)

// sum is sum s of a token and row block.
func (t tile) sum(token, half, s int) reg.VecPhysical { return zmm[(token*t.halves+half)*t.sums+s] }

func (t tile) chain(token, half int) op.Mem { return chain(token*t.halves + half) }

// at addresses the weights of a row block; those of the second are `next` bytes on.
func (t tile) at(half, disp int) op.Mem {
	m := at(weights, disp)
	if half == 1 {
		m.Index, m.Scale = next, 1
	}
	return m
}

func (t tile) each(do func(token, half int)) {
	for token := range t.n {
		for half := range t.halves {
			do(token, half)
		}
	}
}

func (t tile) header() {
	flags, chains := attr.NOSPLIT, t.n*t.halves
	if chains > 4 {
		flags = 0 // the frame is too large for that
	}
	if t.halves == 1 {
		name := fmt.Sprintf("vnni%d", t.n)
		start(name, "func(y []float32, ldY int, w []byte, q []int8, ldQ int, offsets []int32, ldO int, act []float32, rowBlocks, groups, per, steps int)",
			flags, fmt.Sprintf("%s is tokenBlocksRef for %d tokens, whose offsets are int32; rowBlocks is positive.", name, t.n))
	} else {
		name := fmt.Sprintf("vnniPairs%d", t.n)
		start(name, "func(y []float32, ldY int, w []byte, ldW int, q []int8, ldQ int, offsets []int32, ldO int, act []float32, pairs, groups, per, steps int)",
			flags, fmt.Sprintf("%s is tokenBlocksRef for %d tokens, whose offsets are int32, and so many pairs of row blocks of ldW bytes; pairs is positive.", name, t.n))
	}
	allocChains(chains)
}

// emit writes the kernel. The chains of the rows are on the stack: they are touched once a group.
func (t tile) emit() {
	t.header()
	result, left := b.AllocLocal(8), b.AllocLocal(8)
	t.load(result, left)
	b.Label("row")
	b.Load(b.Param("q").Base(), rows.base[0])
	rows.second(t.n)
	b.Load(b.Param("offsets").Base(), offsets)
	b.Load(b.Param("groups"), groups)
	b.VPXORD(code[0], code[0], code[0])
	t.each(func(token, half int) { b.VMOVUPS(code[0], t.chain(token, half)) })
	b.Label("group")
	t.startSums()
	b.Label("steps")
	b.Load(b.Param("steps"), steps)
	b.Label("step")
	t.step()
	b.ADDQ(op.U8(64), weights)
	rows.advance(t.n, 16)
	b.DECQ(steps)
	b.JNE(op.LabelRef("step"))
	b.ADDQ(op.U8(64), weights)
	b.ADDQ(op.U8(4), offsets)
	b.DECQ(blocks)
	b.JNE(op.LabelRef("block"))
	t.scale()
	b.DECQ(groups)
	b.JNE(op.LabelRef("group"))
	t.store(result)
	b.DECQ(left)
	b.JNE(op.LabelRef("row"))
	finish()
	b.Label("block")
	t.addOffsets()
	b.JMP(op.LabelRef("steps"))
}

func (t tile) load(result, left op.Mem) {
	b.Load(b.Param("y").Base(), ptr)
	b.MOVQ(ptr, result)
	b.Load(b.Param("w").Base(), weights)
	if t.halves == 1 {
		b.Load(b.Param("rowBlocks"), ptr)
		for f := 1; f < 4; f++ {
			b.VPBROADCASTQ(matrix(f), zmm[27+f])
		}
	} else {
		b.Load(b.Param("ldW"), next)
		b.Load(b.Param("pairs"), ptr)
	}
	b.MOVQ(ptr, left)
	b.MOVL(op.U32(0x03030303), ptr.As32())
	b.VPBROADCASTD(ptr.As32(), lowest)
	rows.strides(t.n)
}

// startSums begins a group: with the first block's offsets, those of the others are added.
func (t tile) startSums() {
	b.Load(b.Param("per"), blocks)
	t.walkOffsets(func(token, half int) {
		b.VPBROADCASTD(at(ptr, 0), t.sum(token, half, 0))
		for s := 1; s < t.sums; s++ {
			zero := t.sum(token, half, s)
			b.VPXORD(zero, zero, zero)
		}
	})
}

func (t tile) addOffsets() {
	t.walkOffsets(func(token, half int) {
		sum := t.sum(token, half, 0)
		b.VPADDD_BCST(at(ptr, 0), sum, sum)
	})
}

// walkOffsets does something with each token's offset, at ptr.
func (t tile) walkOffsets(do func(token, half int)) {
	b.MOVQ(offsets, ptr)
	b.Load(b.Param("ldO"), steps)
	walk(t.n, ptr, steps, func(token int) {
		for half := range t.halves {
			do(token, half)
		}
	})
}

// step is 16 columns of all rows. Of one row block, activations are repeated by the products' memory operands.
func (t tile) step() {
	for half := range t.halves {
		b.PREFETCHT0(t.at(half, ahead))
		b.VMOVDQU64(t.at(half, 0), code[half])
	}
	for f := range 4 {
		for half := range t.halves {
			t.field(f, half)
		}
		s := f % t.sums
		for token := range t.n {
			if t.halves == 1 {
				b.VPDPBUSD_BCST(rows.at(token, 4*f), field[0], t.sum(token, 0, s))
				continue
			}
			q := zmm[28+token%3]
			b.VPBROADCASTD(rows.at(token, 4*f), q)
			for half := range 2 {
				b.VPDPBUSD(q, field[half], t.sum(token, half, s))
			}
		}
	}
}

// field makes the codes of field f bytes. GF2P8AFFINEQB multiplies each byte by a matrix of bits, which one row block has in
// a register.
func (t tile) field(f, half int) {
	switch {
	case f == 0:
		b.VPANDD(lowest, code[half], field[half])
	case t.halves == 1:
		b.VGF2P8AFFINEQB(op.U8(0), zmm[27+f], code[half], field[half])
	default:
		b.VGF2P8AFFINEQB_BCST(op.U8(0), matrix(f), code[half], field[half])
	}
}

var matrices = map[int]op.Mem{}

// matrix takes bits 2f and 2f+1 of a byte to bits 0 and 1. It begins with the row of bit 7.
func matrix(f int) op.Mem {
	if m, ok := matrices[f]; ok {
		return m
	}
	m := b.GLOBL(fmt.Sprintf("field%d", f), attr.RODATA|attr.NOPTR)
	b.DATA(0, op.U64(1<<(2*f)<<56|1<<(2*f+1)<<48))
	matrices[f] = m
	return m
}

// scale adds a token's sums and takes the result into the rows' chains, which then are in the sum's register, too.
func (t tile) scale() {
	for half := range t.halves {
		b.VMOVUPS(t.at(half, -64), code[half])
	}
	t.each(func(token, half int) {
		sum := t.sum(token, half, 0)
		for s := t.sums / 2; s > 0; s /= 2 {
			for j := range s {
				b.VPADDD(t.sum(token, half, s+j), t.sum(token, half, j), t.sum(token, half, j))
			}
		}
		b.VCVTDQ2PS(sum, sum)
		b.VFMADD213PS(t.chain(token, half), code[half], sum)
		b.VMOVUPS(sum, t.chain(token, half))
	})
}

// store writes the products and goes on to the next rows.
func (t tile) store(result op.Mem) {
	b.MOVQ(result, ptr)
	b.Load(b.Param("ldY"), steps)
	b.Load(b.Param("act").Base(), blocks)
	walk(t.n, ptr, steps, func(token int) {
		for half := range t.halves {
			sum := t.sum(token, half, 0)
			b.VMULPS_BCST(at(blocks, 4*token), sum, sum)
			b.VMOVUPS(sum, at(ptr, 64*half))
		}
	})
	b.ADDQ(op.U32(64*t.halves), result)
	if t.halves == 2 {
		b.ADDQ(next, weights)
	}
}
