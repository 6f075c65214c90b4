//go:build !amd64 || purego

package simd

func vnniKernel(y []float32, ldY int, w []byte, q []int8, ldQ int, o []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	tokenBlocksRef(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
}

func vnniPairs(y []float32, ldY int, w []byte, _ int, q []int8, ldQ int, o []int32, ldO int, act []float32, pairs, groups, per, steps int) {
	tokenBlocksRef(y, ldY, w, q, ldQ, o, ldO, act, 2*pairs, groups, per, steps)
}

func quantizeToken512(q []int8, offsets []int32, x []float32) float32 {
	return quantizeToken512Ref(q, offsets, x)
}

// DotProductPeak has no meaning without the assembly: it does as many multiplications and additions one by one.
func DotProductPeak(iters int) { MultiplyAddPeak(4 * iters) }
