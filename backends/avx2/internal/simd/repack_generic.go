//go:build !amd64 || purego

package simd

func ternaryBlocks(dst []byte, stride int, codes []byte, ldc, blocks int) {
	ternaryBlocksRef(dst, stride, codes, ldc, blocks)
}
