//go:build !amd64 || purego

package simd

func ternaryPanels(dst []float32, ldp int, codes []byte, ldc int, scales []float32, lds, rows, panels int) {
	ternaryPanelsRef(dst, ldp, codes, ldc, scales, lds, rows, panels)
}

func bookPanels(dst []float32, ldp int, codes []byte, ldc int, scales []float32, lds, rows, panels int, values *[16]float32) {
	bookPanelsRef(dst, ldp, codes, ldc, scales, lds, rows, panels, values)
}

func encodeBookVec(dst []byte, x []float32, over *[16]float32) bool {
	return encodeBookRef(dst, x, over)
}

func encodeTernaryVec(dst []byte, x []float32) { encodeTernaryRef(dst, x) }
