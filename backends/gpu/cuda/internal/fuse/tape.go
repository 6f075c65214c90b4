package fuse

import (
	_ "embed"
	"encoding/binary"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
)

//go:embed tape.cu
var tapeCode string

// tapeSource is the interpreter.
func tapeSource() driver.Source { return withHeader("fuse_tape.cu", tapeCode) }

// Words of a table's head; see tape.cu.
const (
	headLoops = iota
	headReductions
	headGroup
	headCode
	headMaps
	headPointers
	headWords = 8
)

// noRegister is none in a table.
const noRegister = ^uint32(0)

// tape is a program as the interpreter reads it.
type tape struct {
	head []uint32
	code []uint32
	maps []uint64
}

// table is the program for the interpreter, with the addresses of what it reads
// and writes: operands, tables, results.
func (p *program) table(t kinds, operands, tables, results []driver.Pointer) []byte {
	tp := &tape{head: make([]uint32, headWords)}
	tp.head[headLoops] = uint32(len(p.loops))
	tp.head[headReductions] = uint32(len(p.reductions))
	tp.head[headGroup] = uint32(p.geometry().group)
	classes := p.classify(p.roots(false))
	w := &writer{p: p, tape: tp, t: t, classes: classes, operands: len(operands), inputs: len(operands) + len(tables)}
	first := headWords + 2*len(p.loops) + 1 // of the reductions
	w.reductions = first
	starts := make([]uint32, 0, 2*len(p.loops)+1)
	for k := range p.rows {
		starts = append(starts, w.block(p.rows[k]))
		if k < len(p.loops) {
			starts = append(starts, w.block(p.loops[k]))
		}
	}
	tp.head = append(tp.head, starts...)
	for _, r := range p.reductions {
		tp.head = append(tp.head, bit(r.max), uint32(r.loop), uint32(p.valueHomes[r.dst]))
	}
	return tp.bytes(operands, tables, results)
}

// bytes lays the parts of a tape one behind the other, each from a multiple of 16
// bytes on.
func (t *tape) bytes(pointers ...[]driver.Pointer) []byte {
	pad := func(words int) int { return (words + 3) &^ 3 }
	code := pad(len(t.head))
	maps := code + len(t.code) // of whole instructions, 32 bytes each
	ends := pad(maps + 2*len(t.maps))
	t.head[headCode], t.head[headMaps], t.head[headPointers] = uint32(code), uint32(maps), uint32(ends)
	var out []byte
	put := func(words []uint32) {
		for _, w := range words {
			out = binary.LittleEndian.AppendUint32(out, w)
		}
	}
	put(t.head)
	put(make([]uint32, code-len(t.head)))
	put(t.code)
	for _, m := range t.maps {
		out = binary.LittleEndian.AppendUint64(out, m)
	}
	put(make([]uint32, ends-maps-2*len(t.maps)))
	for _, list := range pointers {
		for _, p := range list {
			out = binary.LittleEndian.AppendUint64(out, uint64(p))
		}
	}
	return out
}

// writer writes instructions to a tape.
type writer struct {
	p          *program
	tape       *tape
	t          kinds
	classes    classes
	operands   int // pointers before those of tables
	inputs     int // and before those of results
	reductions int // the word where their list begins
}

// block writes instructions and an end, and returns the number of the first.
func (w *writer) block(code []instr) uint32 {
	start := uint32(len(w.tape.code) / 8)
	for _, in := range code {
		w.instr(in)
	}
	w.tape.code = append(w.tape.code, uint32(opEnd), 0, 0, 0, 0, 0, 0, 0)
	return start
}

func (w *writer) instr(in instr) {
	var place, arg, layout uint32
	arg = uint32(in.arg)
	switch in.op {
	case opIndex:
		place = uint32(len(w.tape.maps))
		w.tape.maps = append(w.tape.maps, uint64(len(in.m.terms)), uint64(in.m.off))
		for _, t := range in.m.terms {
			w.tape.maps = append(w.tape.maps, uint64(t.div), uint64(t.mod), uint64(t.mul))
		}
	case opInside:
		place = uint32(len(w.tape.maps))
		w.tape.maps = append(w.tape.maps, uint64(in.in.div), uint64(in.in.mod), uint64(in.in.lo), uint64(in.in.hi))
	case opReduce:
		place = uint32(w.reductions + 3*in.arg)
	case opLoad:
		l := w.t.operand(in.arg)
		layout = uint32(l.code) | w.vector(l, in)
		if in.arg < 0 {
			arg = uint32(w.operands - 1 - in.arg)
		}
	case opStore:
		l := w.t.result(in.arg)
		layout = uint32(l.code) | w.vector(l, in)
		arg = uint32(w.inputs + in.arg)
	}
	index, write := in.op == opIndex, in.op != opStore && in.op != opReduce
	a := w.home(in.a, in.op == opIndex || in.op == opInside || in.op == opIota || in.op == opLoad || in.op == opStore)
	dst := noRegister
	if write {
		dst = w.home(in.dst, index)
	}
	w.tape.code = append(w.tape.code, uint32(in.op), dst, a, w.home(in.b, false), w.home(in.c, false), arg, place, layout)
}

// vector is the bit that says that four elements are moved at once.
func (w *writer) vector(l layout, in instr) uint32 {
	if w.classes.vector(l, in) {
		return 16
	}
	return 0
}

func (w *writer) home(reg int, index bool) uint32 {
	switch {
	case reg == none:
		return noRegister
	case index:
		return uint32(w.p.indexHomes[reg])
	}
	return uint32(w.p.valueHomes[reg])
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
