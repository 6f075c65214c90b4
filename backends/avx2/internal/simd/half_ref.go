package simd

import "github.com/ternlm/tern/framework/tensor"

// rowDotsRef sets dst[j] to a chain of fma(x[l], rows[j*ld+l], .) over ascending l from zero, for j < n.
func rowDotsRef(dst, x, rows []float32, ld, k, n int) {
	for j := range n {
		sum := float32(0)
		for l := range k {
			sum = fma32(x[l], rows[j*ld+l], sum)
		}
		dst[j] = sum
	}
}

// rowDotsHalfRef is rowDotsRef of f16 rows.
func rowDotsHalfRef(dst, x []float32, rows []uint16, ld, k, n int) {
	for j := range n {
		sum := float32(0)
		for l := range k {
			sum = fma32(x[l], tensor.F16ToF32(rows[j*ld+l]), sum)
		}
		dst[j] = sum
	}
}

// panelDotsHalfRef sets dst[16*p+j] to a chain of fma(x[l], panels[16*(p*k+l)+j], .) over ascending l from zero, for j < 16,
// p < n.
func panelDotsHalfRef(dst, x []float32, panels []uint16, k, n int) {
	for i := range n * panelCols {
		sum := float32(0)
		for l := range k {
			sum = fma32(x[l], tensor.F16ToF32(panels[panelCols*(i/panelCols*k+l)+i%panelCols]), sum)
		}
		dst[i] = sum
	}
}

// rowSumRef sets dst[i] to a chain of fma(p[j], rows[j*ld+i], .) over ascending j, from zero if first, for i < width.
func rowSumRef(width int, dst, p, rows []float32, ld, n int, first bool) {
	for i := range width {
		sum := dst[i]
		if first {
			sum = 0
		}
		for j := range n {
			sum = fma32(p[j], rows[j*ld+i], sum)
		}
		dst[i] = sum
	}
}

// rowSumHalfRef is rowSumRef of f16 rows.
func rowSumHalfRef(width int, dst, p []float32, rows []uint16, ld, n int, first bool) {
	for i := range width {
		sum := dst[i]
		if first {
			sum = 0
		}
		for j := range n {
			sum = fma32(p[j], tensor.F16ToF32(rows[j*ld+i]), sum)
		}
		dst[i] = sum
	}
}
