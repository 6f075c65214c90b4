package main

import (
	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// peak is the limit that benchmarks quote: VPDPBUSD on as many independent sums as hide its latency.
func peak() {
	start("DotProductPeak", "func(iters int)", attr.NOSPLIT,
		"DotProductPeak runs iters rounds of 24 VPDPBUSD in registers, 3,072 multiplications and additions each, for benchmarks.")
	n := reg.RCX
	b.Load(b.Param("iters"), n)
	for _, z := range zmm {
		b.VPXORD(z, z, z)
	}
	b.Label("round")
	for i := range 24 {
		b.VPDPBUSD(reg.Z30, reg.Z31, zmm[i])
	}
	b.DECQ(n)
	b.JNE(op.LabelRef("round"))
	finish()
}
