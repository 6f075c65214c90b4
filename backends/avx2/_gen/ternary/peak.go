package main

import (
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// peak is the multiply-add limit that benchmarks quote: as many independent VPMADDUBSW and VPADDW as there are registers.
func peak() {
	start("MultiplyAddPeak", "func(iters int)",
		"MultiplyAddPeak runs iters rounds of 12 byte multiply-adds in registers, 768 multiplications and additions each, for benchmarks.")
	n := reg.RCX
	b.Load(b.Param("iters"), n)
	for i := range 16 {
		b.VPXOR(ymm[i], ymm[i], ymm[i])
	}
	b.Label("round")
	for i := range 12 {
		b.VPMADDUBSW(reg.Y12, reg.Y13, ymm[14+i%2])
		b.VPADDW(ymm[14+i%2], ymm[i], ymm[i])
	}
	b.DECQ(n)
	b.JNE(op.LabelRef("round"))
	finish()
}
