//go:build !purego

package simd

// bookPanels is bookPanelsRef.
func bookPanels(bits int, dst []float32, ldp int, codes []byte, ldc int, scales []float32, lds, rows, panels int, values *[16]float32) {
	switch bits {
	case 1:
		bookPanels1(dst, ldp, codes, ldc, scales, lds, rows, panels, values)
	case 2:
		bookPanels2(dst, ldp, codes, ldc, scales, lds, rows, panels, values)
	case 4:
		bookPanels4(dst, ldp, codes, ldc, scales, lds, rows, panels, values)
	default:
		bookPanels8(dst, ldp, codes, ldc, scales, lds, rows, panels, values)
	}
}
