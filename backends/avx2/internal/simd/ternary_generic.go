//go:build !amd64 || purego

package simd

func gemv128(y []float32, w []byte, q []int8, offsets []int32, act []float32, groups, per int) {
	tokenBlocksRef(y, 0, w, q, 0, offsets, 0, act[:1], len(y)/RowBlock, groups, per, maxSteps)
}

func gemv128Prefetch(y []float32, w []byte, q []int8, offsets []int32, act []float32, groups, per int) {
	tokenBlocksRef(y, 0, w, q, 0, offsets, 0, act[:1], len(y)/RowBlock, groups, per, maxSteps)
}

func gemv128Long(y []float32, w []byte, q []int8, offsets []int32, act []float32, groups, per int) {
	tokenBlocksRef(y, 0, w, q, 0, offsets, 0, act[:1], len(y)/RowBlock, groups, per, maxSteps)
}

func gemv128LongPrefetch(y []float32, w []byte, q []int8, offsets []int32, act []float32, groups, per int) {
	tokenBlocksRef(y, 0, w, q, 0, offsets, 0, act[:1], len(y)/RowBlock, groups, per, maxSteps)
}

func tokens1(y []float32, ldY int, w []byte, q []int8, ldQ int, offsets []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	tokenBlocksRef(y, ldY, w, q, ldQ, offsets, ldO, act[:1], rowBlocks, groups, per, steps)
}

func tokens2(y []float32, ldY int, w []byte, q []int8, ldQ int, offsets []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	tokenBlocksRef(y, ldY, w, q, ldQ, offsets, ldO, act[:2], rowBlocks, groups, per, steps)
}

func tokens3(y []float32, ldY int, w []byte, q []int8, ldQ int, offsets []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	tokenBlocksRef(y, ldY, w, q, ldQ, offsets, ldO, act[:3], rowBlocks, groups, per, steps)
}

func tokens4(y []float32, ldY int, w []byte, q []int8, ldQ int, offsets []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	tokenBlocksRef(y, ldY, w, q, ldQ, offsets, ldO, act[:4], rowBlocks, groups, per, steps)
}

func tokens1Long(y []float32, ldY int, w []byte, q []int8, ldQ int, offsets []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	tokenBlocksRef(y, ldY, w, q, ldQ, offsets, ldO, act[:1], rowBlocks, groups, per, steps)
}

func tokens2Long(y []float32, ldY int, w []byte, q []int8, ldQ int, offsets []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	tokenBlocksRef(y, ldY, w, q, ldQ, offsets, ldO, act[:2], rowBlocks, groups, per, steps)
}

func tokens3Long(y []float32, ldY int, w []byte, q []int8, ldQ int, offsets []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	tokenBlocksRef(y, ldY, w, q, ldQ, offsets, ldO, act[:3], rowBlocks, groups, per, steps)
}

func tokens4Long(y []float32, ldY int, w []byte, q []int8, ldQ int, offsets []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	tokenBlocksRef(y, ldY, w, q, ldQ, offsets, ldO, act[:4], rowBlocks, groups, per, steps)
}

// MultiplyAddPeak has no meaning without the assembly: it does as many multiplications and additions one by one.
func MultiplyAddPeak(iters int) {
	var acc int32
	for i := range int32(iters * 384) {
		acc += acc * i
	}
	_ = acc
}
