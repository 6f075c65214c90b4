//go:build !purego

package simd

// bookLines is bookLinesRef.
func bookLines(bits int, dst, codes []byte, ldc, fours int, nibbles *[16]byte) {
	switch bits {
	case 1:
		bookLines1(dst, codes, ldc, fours, nibbles)
	case 2:
		bookLines2(dst, codes, ldc, fours, nibbles)
	case 4:
		bookLines4(dst, codes, ldc, fours, nibbles)
	default:
		bookLines8(dst, codes, ldc, fours, nibbles)
	}
}
