package simd

// ternaryBlocksRef is what ternaryBlocks does.
func ternaryBlocksRef(dst []byte, stride int, codes []byte, ldc, blocks int) {
	for b := range blocks {
		for step := range maxSteps {
			for r := range RowBlock {
				storeDword(dst[b*stride+64*step+4*r:], transposeFields(presentFields(loadDword(codes[r*ldc+32*b+4*step:]))))
			}
		}
	}
}
