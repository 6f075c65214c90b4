package avx2

import "github.com/ternlm/tern/backends/avx2/internal/simd"

// Probes measure what one thread of this processor can do at most, for
// whoever says how near to that a program comes. They need Supported.

// ProbeInt8 multiplies and adds bytes in registers, as the kernels of ternary
// weights do, and returns the number of multiplications and additions.
func ProbeInt8(rounds int) (ops float64) {
	simd.MultiplyAddPeak(rounds)
	return 768 * float64(rounds)
}

// ProbeFMA multiplies and adds f32 in registers, as the matrix product does,
// and returns the number of multiplications and additions.
func ProbeFMA(rounds int) (ops float64) {
	simd.FMAPeak(rounds)
	return 384 * float64(rounds)
}

// ProbeRead reads x in two streams, two loads to one operation, which is as
// fast as memory and the load ports can.
func ProbeRead(x []float32) { simd.Dot(x[:len(x)/2], x[len(x)/2:]) }
