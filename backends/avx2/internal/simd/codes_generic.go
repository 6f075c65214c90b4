//go:build !amd64 || purego

package simd

func ternaryPanels(dst []float32, ldp int, codes []byte, ldc int, scales []float32, lds, rows, panels int) {
	ternaryPanelsRef(dst, ldp, codes, ldc, scales, lds, rows, panels)
}

func encodeTernaryVec(dst []byte, x []float32) { encodeTernaryRef(dst, x) }
