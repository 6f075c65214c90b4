package simd

// gemm512Kernel is a micro-kernel of AVX-512: tiles of some rows, one under another in c and ts elements of a apart, of
// some adjacent panels, ldp elements apart, which have cols columns together. next are the panels that come after them,
// which it fetches.
type gemm512Kernel func(c []float32, ldc int, a []float32, rs, cs int, b []float32, ldp, k, tiles, ts int, next []float32, cols int, first bool)

// run512 is run with the kernels of AVX-512, which leave out the columns that the last panel lacks by a mask.
func (s *strip) run512(c, a, b []float32) {
	tiles, rest := s.rows/tileRows512, s.rows%tileRows512
	for j := 0; j < s.cols; {
		n := s.panels512(ceilDiv(s.cols-j, panelCols))
		cols := min(n*panelCols, s.cols-j)
		panels := b[j/panelCols*s.ldp:]
		next := panels
		if j+cols < s.cols {
			next = panels[n*s.ldp:]
		}
		if tiles > 0 {
			gemm512[n][tileRows512](c[j:], s.ldc, a, s.rs, s.cs, panels, s.ldp, s.k, tiles, s.tile, next, cols, s.first)
		}
		if rest > 0 {
			gemm512[n][rest](c[tiles*tileRows512*s.ldc+j:], s.ldc, a[tiles*s.tile:], s.rs, s.cs, panels, s.ldp, s.k, 1, 0, next, cols, s.first)
		}
		j += cols
	}
}

// panels512 is how many of the panels left a kernel takes: four for a few rows, whose accumulators would wait for each
// other otherwise.
func (s *strip) panels512(left int) int {
	if s.rows <= 3 && left >= 4 {
		return 4
	}
	return min(left, 2)
}
