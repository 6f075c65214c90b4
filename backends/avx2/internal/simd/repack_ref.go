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

// bookLinesRef writes 4*fours lines of 64 bytes to dst: dwords of 16 rows, ldc bytes apart, of codes of so many bits. Byte c
// of a dword has its code 4f+c in field f. Codes are replaced as nibbles says for each four bits, bytes of -128 by 0.
func bookLinesRef(bits int, dst, codes []byte, ldc, fours int, nibbles *[16]byte) {
	c := Codebook{Bits: bits}
	for i := range 4 * fours {
		for r := range RowBlock {
			x := loadDword(codes[r*ldc+4*i:])
			if bits == 8 {
				x = presentBytes(x)
			} else {
				for f := 0; f < 32; f += 4 {
					x = x&^(15<<f) | uint32(nibbles[x>>f&15])<<f
				}
			}
			storeDword(dst[64*i+4*r:], c.transpose(x))
		}
	}
}
