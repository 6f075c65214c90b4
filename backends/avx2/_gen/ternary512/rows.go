package main

import (
	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var zmm = []reg.VecPhysical{
	reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
	reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23, reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
}

func at(base reg.Register, disp int) op.Mem { return op.Mem{Base: base, Disp: disp} }

func start(name, sig string, flags attr.Attribute, doc ...string) {
	b.TEXT(name, flags, sig)
	b.Pragma("noescape")
	b.Doc(doc...)
}

func finish() {
	b.VZEROUPPER()
	b.RET()
}

// tokenRows addresses up to 16 rows of activations: eight from each base, by multiples 0 to 7 of the stride.
type tokenRows struct {
	base                    [2]reg.GPPhysical
	one, three, five, seven reg.GPPhysical
}

var rows = tokenRows{[2]reg.GPPhysical{reg.RBX, reg.R8}, reg.R10, reg.R11, reg.R12, reg.R13}

// at addresses a column of row t.
func (r *tokenRows) at(t, column int) op.Mem {
	m := at(r.base[t/8], column)
	switch t % 8 {
	case 1, 2, 4:
		m.Index, m.Scale = r.one, uint8(t%8)
	case 3, 6:
		m.Index, m.Scale = r.three, uint8(t%8/3)
	case 5:
		m.Index, m.Scale = r.five, 1
	case 7:
		m.Index, m.Scale = r.seven, 1
	}
	return m
}

// strides sets the multiples of the stride that n rows need.
func (r *tokenRows) strides(n int) {
	if n == 1 {
		return
	}
	b.Load(b.Param("ldQ"), r.one)
	b.LEAQ(op.Mem{Base: r.one, Index: r.one, Scale: 2}, r.three)
	b.LEAQ(op.Mem{Base: r.one, Index: r.one, Scale: 4}, r.five)
	b.LEAQ(op.Mem{Base: r.three, Index: r.one, Scale: 4}, r.seven)
}

// second sets the second base of n rows from the first.
func (r *tokenRows) second(n int) {
	if n > 8 {
		b.LEAQ(op.Mem{Base: r.base[0], Index: r.one, Scale: 8}, r.base[1])
	}
}

func (r *tokenRows) advance(n, columns int) {
	for i := 0; 8*i < n; i++ {
		b.ADDQ(op.U8(columns), r.base[i])
	}
}

// walk does something with each of n rows of dwords, with a pointer that goes from one to the next.
func walk(n int, ptr, stride reg.Register, do func(t int)) {
	for t := range n {
		do(t)
		if t < n-1 {
			b.LEAQ(op.Mem{Base: ptr, Index: stride, Scale: 4}, ptr)
		}
	}
}

// chainBase points at chains of 64 bytes on the stack. It is aligned, which the stack is not: a store across two pages takes
// as long as dozens of products.
var chainBase = reg.RDI

func chain(i int) op.Mem { return at(chainBase, 64*i) }

// allocChains makes room for n chains.
func allocChains(n int) {
	b.LEAQ(b.AllocLocal(64*n+64).Offset(63), chainBase)
	b.ANDQ(op.I8(-64), chainBase)
}
