package simd

// quantizeToken512Ref is quantizeTokenRef with offsets of 32 bits.
func quantizeToken512Ref(q []int8, offsets []int32, x []float32) float32 {
	scale := quantizeTokenRef(q, offsets, x)
	if scale != 0 {
		extendOffsets(offsets)
	}
	return scale
}
