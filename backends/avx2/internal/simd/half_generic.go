//go:build !amd64 || purego

package simd

func rowDots(dst, x, rows []float32, ld, k, blocks, _ int) {
	rowDotsRef(dst, x, rows, ld, k, rowLanes*blocks)
}

func rowDotsHalf(dst, x []float32, rows []uint16, ld, k, blocks, _ int) {
	rowDotsHalfRef(dst, x, rows, ld, k, rowLanes*blocks)
}

func rowSum64(dst, p, rows []float32, ld, n, _ int, first bool) {
	rowSumRef(64, dst, p, rows, ld, n, first)
}

func rowSum32(dst, p, rows []float32, ld, n, _ int, first bool) {
	rowSumRef(32, dst, p, rows, ld, n, first)
}

func rowSum8(dst, p, rows []float32, ld, n, _ int, first bool) {
	rowSumRef(8, dst, p, rows, ld, n, first)
}

func rowSum64Half(dst, p []float32, rows []uint16, ld, n, _ int, first bool) {
	rowSumHalfRef(64, dst, p, rows, ld, n, first)
}

func rowSum32Half(dst, p []float32, rows []uint16, ld, n, _ int, first bool) {
	rowSumHalfRef(32, dst, p, rows, ld, n, first)
}

func rowSum8Half(dst, p []float32, rows []uint16, ld, n, _ int, first bool) {
	rowSumHalfRef(8, dst, p, rows, ld, n, first)
}

func panelDotsHalf(dst, x []float32, panels []uint16, k, n int) {
	panelDotsHalfRef(dst, x, panels, k, n)
}
