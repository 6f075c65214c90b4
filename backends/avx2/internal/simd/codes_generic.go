//go:build !amd64 || purego

package simd

func bookPanels(bits int, dst []float32, ldp int, codes []byte, ldc int, scales []float32, lds, rows, panels int, values *[16]float32) {
	bookPanelsRef(bits, dst, ldp, codes, ldc, scales, lds, rows, panels, values)
}

func encodeBookVec(dst []byte, x []float32, over *[16]float32) bool {
	return encodeBookRef(4, dst, x, over)
}

func encodeBitsVec(dst []byte, x []float32, over *[16]float32) bool {
	return encodeBookRef(1, dst, x, over)
}

func encodeLevelsVec(dst []int8, x []float32) { encodeLevelsRef(dst, x) }

func encodeTernaryVec(dst []byte, x []float32) bool {
	encodeTernaryRef(dst, x)
	return false
}
