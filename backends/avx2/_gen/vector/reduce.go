package main

import (
	"strings"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// reduction folds a row into one float32 in an order that depends on its
// length alone: element i goes to lane i%8 of accumulator (i/8)%4, the last
// n%8 elements to accumulator 3; then (0+1)+(2+3), then lanes +4, +2, +1.
type reduction struct {
	name, doc string
	in        []string
	scalars   []string
	start     op.Mem // every lane's first value
	prepare   func(s map[string]vec)
	// step folds x into acc; mask is nil for a full vector, else masked lanes
	// of x are zero and must not change acc.
	step func(s map[string]vec, acc vec, x []vec, mask *vec)
	// fold sets z = x op y.
	fold func(y, x, z reg.VecVirtual)
}

func (k reduction) emit() {
	sig := "func(" + strings.Join(k.in, ", ") + " []float32"
	if len(k.scalars) > 0 {
		sig += ", " + strings.Join(k.scalars, ", ") + " float32"
	}
	b.TEXT(k.name, attr.NOSPLIT, sig+") float32")
	b.Pragma("noescape")
	document(k.name + " " + k.doc)
	ptr := make([]reg.GPVirtual, len(k.in))
	for j, name := range k.in {
		ptr[j] = base(name)
	}
	n := b.Load(b.Param(k.in[0]).Len(), b.GP64()).(reg.GPVirtual)
	s := map[string]vec{}
	for _, name := range k.scalars {
		s[name] = scalar(name)
	}
	if k.prepare != nil {
		k.prepare(s)
	}
	acc := make([]vec, 4)
	for j := range acc {
		acc[j] = b.YMM()
		b.VMOVUPS(k.start, acc[j])
	}
	step := func(j, disp int, mask *vec) {
		x := make([]vec, len(ptr))
		for i, p := range ptr {
			x[i] = b.YMM()
			m := op.Mem{Base: p, Disp: disp}
			if mask == nil {
				b.VMOVUPS(m, x[i])
			} else {
				b.VMASKMOVPS(m, *mask, x[i])
			}
		}
		k.step(s, acc[j], x, mask)
	}
	advance := func(vectors int) {
		for _, p := range ptr {
			b.ADDQ(op.U8(uint8(32*vectors)), p)
		}
		b.SUBQ(op.U8(uint8(8*vectors)), n)
	}
	b.Label("block")
	b.CMPQ(n, op.U8(32))
	b.JLT(op.LabelRef("rest"))
	for j := range acc {
		step(j, 32*j, nil)
	}
	advance(4)
	b.JMP(op.LabelRef("block"))
	b.Label("rest")
	for j := range 3 {
		b.CMPQ(n, op.U8(8))
		b.JLT(op.LabelRef("tail"))
		step(j, 0, nil)
		advance(1)
	}
	b.Label("tail")
	b.TESTQ(n, n)
	b.JEQ(op.LabelRef("done"))
	m := tailMask(n)
	step(3, 0, &m)
	b.Label("done")
	k.fold(acc[1], acc[0], acc[0])
	k.fold(acc[3], acc[2], acc[2])
	k.fold(acc[2], acc[0], acc[0])
	foldLanes(k.fold, acc[0], acc[1])
	b.Store(acc[0].AsX(), b.ReturnIndex(0))
	b.VZEROUPPER()
	b.RET()
}

// foldLanes folds the lanes of acc that are 4, 2 and 1 apart into the first; t
// is destroyed.
func foldLanes(fold func(y, x, z reg.VecVirtual), acc, t vec) {
	for _, shuffle := range []func(x, z vec){
		func(x, z vec) { b.VPERM2F128(op.U8(1), x, x, z) },
		func(x, z vec) { b.VSHUFPS(op.U8(0x4e), x, x, z) },
		func(x, z vec) { b.VSHUFPS(op.U8(0xb1), x, x, z) },
	} {
		shuffle(acc, t)
		fold(t, acc, acc)
	}
}

func reductions() {
	add := func(y, x, z vec) { b.VADDPS(y, x, z) }
	zero := repeated(0)
	reduction{
		name:  "sumVec",
		doc:   "returns the sum of x.",
		in:    []string{"x"},
		start: zero,
		fold:  add,
		step: func(_ map[string]vec, acc vec, x []vec, _ *vec) {
			b.VADDPS(x[0], acc, acc)
		},
	}.emit()
	reduction{
		name:  "sumSquaresVec",
		doc:   "returns the sum of x[i]^2, fused.",
		in:    []string{"x"},
		start: zero,
		fold:  add,
		step: func(_ map[string]vec, acc vec, x []vec, _ *vec) {
			b.VFMADD231PS(x[0], x[0], acc)
		},
	}.emit()
	reduction{
		name:  "dotVec",
		doc:   "returns the sum of x[i]*y[i], fused.",
		in:    []string{"x", "y"},
		start: zero,
		fold:  add,
		step: func(_ map[string]vec, acc vec, x []vec, _ *vec) {
			b.VFMADD231PS(x[0], x[1], acc)
		},
	}.emit()
	reduction{
		name:  "dot3Vec",
		doc:   "returns the sum of (x[i]*y[i])*z[i], the last product fused.",
		in:    []string{"x", "y", "z"},
		start: zero,
		fold:  add,
		step: func(_ map[string]vec, acc vec, x []vec, _ *vec) {
			b.VMULPS(x[0], x[1], x[1])
			b.VFMADD231PS(x[2], x[1], acc)
		},
	}.emit()
	reduction{
		name:    "sumExpVec",
		doc:     "returns the sum of refExp(x[i] - s).",
		in:      []string{"x"},
		scalars: []string{"s"},
		start:   zero,
		fold:    add,
		prepare: expConstants,
		step: func(s map[string]vec, acc vec, x []vec, mask *vec) {
			b.VSUBPS(s["s"], x[0], x[0])
			e := exp(s, x[0])
			if mask != nil {
				b.VANDPS(*mask, e, e)
			}
			b.VADDPS(e, acc, acc)
		},
	}.emit()
	reduction{
		name:  "maxValueVec",
		doc:   "returns the largest x[i], NaN if there is one, -Inf for an empty x.",
		in:    []string{"x"},
		start: repeated(negInf),
		fold:  largest,
		step: func(_ map[string]vec, acc vec, x []vec, mask *vec) {
			if mask != nil {
				b.VBLENDVPS(*mask, x[0], acc, x[0])
			}
			largest(x[0], acc, acc)
		},
	}.emit()
	// As integers, absolute values order as floats do, and NaN above +Inf.
	unsigned := func(y, x, z vec) { b.VPMAXUD(y, x, z) }
	reduction{
		name:  "absMaxVec",
		doc:   "returns the largest |x[i]|, NaN if there is one, 0 for an empty x.",
		in:    []string{"x"},
		start: zero,
		fold:  unsigned,
		step: func(_ map[string]vec, acc vec, x []vec, _ *vec) {
			b.VANDPS(repeated(absBits), x[0], x[0])
			b.VPMAXUD(x[0], acc, acc)
		},
	}.emit()
}
