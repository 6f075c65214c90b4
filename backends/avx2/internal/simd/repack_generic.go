//go:build !amd64 || purego

package simd

func ternaryBlocks(dst []byte, stride int, codes []byte, ldc, blocks int) {
	ternaryBlocksRef(dst, stride, codes, ldc, blocks)
}

func bookLines(bits int, dst, codes []byte, ldc, fours int, nibbles *[16]byte) {
	bookLinesRef(bits, dst, codes, ldc, fours, nibbles)
}
