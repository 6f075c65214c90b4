//go:build !amd64 || purego

package simd

func gemm1x16(c []float32, ldc int, a []float32, rs, cs int, b []float32, k int, first bool) {
	gemmTileRef(c, ldc, a, rs, cs, b, k, 1, first)
}

func gemm2x16(c []float32, ldc int, a []float32, rs, cs int, b []float32, k int, first bool) {
	gemmTileRef(c, ldc, a, rs, cs, b, k, 2, first)
}

func gemm3x16(c []float32, ldc int, a []float32, rs, cs int, b []float32, k int, first bool) {
	gemmTileRef(c, ldc, a, rs, cs, b, k, 3, first)
}

func gemm4x16(c []float32, ldc int, a []float32, rs, cs int, b []float32, k int, first bool) {
	gemmTileRef(c, ldc, a, rs, cs, b, k, 4, first)
}

func gemm5x16(c []float32, ldc int, a []float32, rs, cs int, b []float32, k int, first bool) {
	gemmTileRef(c, ldc, a, rs, cs, b, k, 5, first)
}

func gemm6x16(c []float32, ldc int, a []float32, rs, cs int, b []float32, k, tiles, ts int, _ []float32, first bool) {
	gemmTilesRef(c, ldc, a, rs, cs, b, k, tiles, ts, first)
}

func gemm1x64(c []float32, ldc int, a []float32, rs, cs int, b []float32, ldp, k int, first bool) {
	gemmPanelsRef(c, ldc, a, rs, cs, b, ldp, k, 1, 4, first)
}

func gemm2x32(c []float32, ldc int, a []float32, rs, cs int, b []float32, ldp, k int, first bool) {
	gemmPanelsRef(c, ldc, a, rs, cs, b, ldp, k, 2, 2, first)
}

func gemm3x32(c []float32, ldc int, a []float32, rs, cs int, b []float32, ldp, k int, first bool) {
	gemmPanelsRef(c, ldc, a, rs, cs, b, ldp, k, 3, 2, first)
}

func packCopy16(dst []float32, stride int, src []float32, ld, k, panels int) {
	packSliversRef(dst, stride, src, ld, k, panels, panelCols)
}

func packTranspose16(dst, src []float32, ld, k int) { packTransposeRef(dst, src, ld, k, panelCols) }

func packSlivers6(dst []float32, stride int, src []float32, ld, k, slivers int) {
	packSliversRef(dst, stride, src, ld, k, slivers, tileRows)
}

func packSlivers12(dst []float32, stride int, src []float32, ld, k, slivers int) {
	packSliversRef(dst, stride, src, ld, k, slivers, tileRows512)
}

// FMAPeak has no meaning without the assembly: it does iters rounds of 384 operations as the reference loops would.
func FMAPeak(iters int) {
	var acc float32
	for range iters * 192 {
		acc = fma32(acc, acc, acc)
	}
}

func copyRows(dst []float32, stride int, src []float32, ld, k, rows int) {
	copyRowsRef(dst, stride, src, ld, k, rows)
}
