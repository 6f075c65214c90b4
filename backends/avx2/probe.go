package avx2

import (
	"github.com/klauspost/cpuid/v2"

	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework"
)

// backend is what Open returns: it knows its instructions.
type backend struct {
	*host.Backend
	isa simd.ISA
}

// Probe measures what one thread of this processor can do at most with an
// instruction set, for whoever says how near to that a program comes. It needs
// Supported.
type Probe struct{ isa simd.ISA }

// ProbeOf is the probe of the instructions that b uses, or, where b is another
// backend than this, of the largest set that the processor has.
func ProbeOf(b framework.Backend) Probe {
	if b, ok := b.(*backend); ok {
		return Probe{b.isa}
	}
	isa, _ := chooseISA(autoISA, cpuid.CPU.Has)
	return Probe{isa}
}

// Int8 multiplies and adds bytes in registers, as the kernels of ternary
// weights do, and returns the number of multiplications and additions.
func (p Probe) Int8(rounds int) (ops float64) {
	if p.isa == simd.AVX512 {
		simd.DotProductPeak(rounds)
		return 3072 * float64(rounds)
	}
	simd.MultiplyAddPeak(rounds)
	return 768 * float64(rounds)
}

// FMA multiplies and adds f32 in registers, as the matrix product does, and
// returns the number of multiplications and additions.
func (p Probe) FMA(rounds int) (ops float64) {
	if p.isa == simd.AVX512 {
		simd.FMAPeak512(rounds)
		return 768 * float64(rounds)
	}
	simd.FMAPeak(rounds)
	return 384 * float64(rounds)
}

// Read reads x in two streams, two loads to one operation, which is as fast as
// memory and the load ports can with registers of 32 bytes.
func (Probe) Read(x []float32) { simd.Dot(x[:len(x)/2], x[len(x)/2:]) }
