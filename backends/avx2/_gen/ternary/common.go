package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var constants = map[uint32]op.Mem{}

// repeated returns a 32-byte constant of eight equal dwords.
func repeated(bits uint32) op.Mem {
	if m, ok := constants[bits]; ok {
		return m
	}
	m := b.GLOBL(fmt.Sprintf("t%08x", bits), attr.RODATA|attr.NOPTR)
	for i := range 8 {
		b.DATA(4*i, op.U32(bits))
	}
	constants[bits] = m
	return m
}

func ones() op.Mem { return repeated(0x00010001) }

const (
	lowField  = 0x03030303
	highField = 0x0c0c0c0c
)

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

// triple sets ld[1] = 3*ld[0] where t rows need it.
func triple(ld [2]reg.Register, t int) {
	if t > 3 {
		b.LEAQ(op.Mem{Base: ld[0], Index: ld[0], Scale: 2}, ld[1])
	}
}

func start(name, sig string, doc ...string) {
	b.TEXT(name, attr.NOSPLIT, sig)
	b.Pragma("noescape")
	b.Doc(doc...)
}

func finish() {
	b.VZEROUPPER()
	b.RET()
}
