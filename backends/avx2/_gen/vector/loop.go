package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vec is one 256-bit register.
type vec = reg.VecVirtual

var (
	constants = map[string]op.Mem{}
	masks     op.Mem
	haveMasks bool
)

// repeated returns a 32-byte constant of eight equal dwords. The full width
// lets arithmetic take it as a memory operand.
func repeated(bits uint32) op.Mem {
	name := fmt.Sprintf("c%08x", bits)
	if m, ok := constants[name]; ok {
		return m
	}
	m := b.GLOBL(name, attr.RODATA|attr.NOPTR)
	for i := range 8 {
		b.DATA(4*i, op.U32(bits))
	}
	constants[name] = m
	return m
}

func float(f float32) op.Mem { return repeated(math.Float32bits(f)) }

// tailMask loads the mask whose first n dwords are set; n < 8 is destroyed.
func tailMask(n reg.GPVirtual) vec {
	if !haveMasks {
		masks = b.GLOBL("masks", attr.RODATA|attr.NOPTR)
		for i := range 8 {
			b.DATA(4*i, op.U32(0xffffffff))
		}
		for i := range 8 {
			b.DATA(32+4*i, op.U32(0))
		}
		haveMasks = true
	}
	base := b.GP64()
	b.LEAQ(masks, base)
	b.NEGQ(n)
	m := b.YMM()
	b.VMOVUPS(op.Mem{Base: base, Index: n, Scale: 4, Disp: 32}, m)
	return m
}

// scalar broadcasts the float32 parameter of that name.
func scalar(name string) vec {
	p, err := b.Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	v := b.YMM()
	b.VBROADCASTSS(p.Addr, v)
	return v
}

func base(name string) reg.GPVirtual {
	return b.Load(b.Param(name).Base(), b.GP64()).(reg.GPVirtual)
}

// kernel is an elementwise routine: out[i] = body(in[i]). Tails run the same
// instructions under a mask, so a result does not depend on its position.
type kernel struct {
	name    string
	doc     string
	out, in []string
	scalars []string
	unroll  int
	prepare func(s map[string]vec)
	body    func(s map[string]vec, x []vec) []vec
}

func (k kernel) signature() string {
	var slices []string
	seen := map[string]bool{}
	for _, n := range append(append([]string{}, k.out...), k.in...) {
		if !seen[n] {
			seen[n] = true
			slices = append(slices, n)
		}
	}
	s := "func(" + strings.Join(slices, ", ") + " []float32"
	if len(k.scalars) > 0 {
		s += ", " + strings.Join(k.scalars, ", ") + " float32"
	}
	return s + ")"
}

func (k kernel) emit() {
	b.TEXT(k.name, attr.NOSPLIT, k.signature())
	b.Pragma("noescape")
	document(k.name + " " + k.doc)
	ptr := map[string]reg.GPVirtual{}
	for _, n := range append(append([]string{}, k.out...), k.in...) {
		if _, ok := ptr[n]; !ok {
			ptr[n] = base(n)
		}
	}
	n := b.Load(b.Param(k.out[0]).Len(), b.GP64()).(reg.GPVirtual)
	s := map[string]vec{}
	for _, name := range k.scalars {
		s[name] = scalar(name)
	}
	if k.prepare != nil {
		k.prepare(s)
	}
	i := b.GP64()
	b.XORQ(i, i)
	step := func(disp int, mask *vec) {
		at := func(name string) op.Mem {
			return op.Mem{Base: ptr[name], Index: i, Scale: 4, Disp: disp}
		}
		x := make([]vec, len(k.in))
		for j, name := range k.in {
			x[j] = b.YMM()
			if mask == nil {
				b.VMOVUPS(at(name), x[j])
			} else {
				b.VMASKMOVPS(at(name), *mask, x[j])
			}
		}
		for j, r := range k.body(s, x) {
			if mask == nil {
				b.VMOVUPS(r, at(k.out[j]))
			} else {
				b.VMASKMOVPS(r, *mask, at(k.out[j]))
			}
		}
	}
	loops(n, i, k.unroll, step)
	b.VZEROUPPER()
	b.RET()
}

// loops emits: blocks of unroll vectors, single vectors, one masked vector.
// step must not rely on anything it left in registers.
func loops(n, i reg.GPVirtual, unroll int, step func(disp int, mask *vec)) {
	if unroll > 1 {
		b.Label("block")
		b.CMPQ(n, op.U8(uint8(8*unroll)))
		b.JLT(op.LabelRef("single"))
		for u := range unroll {
			step(32*u, nil)
		}
		b.ADDQ(op.U8(uint8(8*unroll)), i)
		b.SUBQ(op.U8(uint8(8*unroll)), n)
		b.JMP(op.LabelRef("block"))
	}
	b.Label("single")
	b.CMPQ(n, op.U8(8))
	b.JLT(op.LabelRef("tail"))
	step(0, nil)
	b.ADDQ(op.U8(8), i)
	b.SUBQ(op.U8(8), n)
	b.JMP(op.LabelRef("single"))
	b.Label("tail")
	b.TESTQ(n, n)
	b.JEQ(op.LabelRef("done"))
	m := tailMask(n)
	step(0, &m)
	b.Label("done")
}

// document sets the doc comment of the routine, one line per line of text.
func document(text string) { b.Doc(strings.Split(text, "\n")...) }
