package simd

import "math"

// fma32 is the fused multiply-add of float32: round(a*b + c), rounded once. The sum of the exact product and c is
// formed in float64 and rounded to odd there, so that the second rounding is the only one that counts
// (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
func fma32(a, b, c float32) float32 {
	p, z := float64(a)*float64(b), float64(c)
	s := p + z
	t := s - p
	err := (p - (s - t)) + (z - t)
	if err > 0 || err < 0 {
		if n := math.Float64bits(s); n&1 == 0 {
			if (err > 0) == (s > 0) {
				n++
			} else {
				n--
			}
			s = math.Float64frombits(n)
		}
	}
	return float32(s)
}

// gemmTileRef is what the micro-kernels compute, for any rows and cols <= 16 of one panel.
func gemmTileRef(c []float32, ldc int, a []float32, rs, cs int, b []float32, k, rows int, first bool) {
	for i := range rows {
		for j := range panelCols {
			var acc float32
			if !first {
				acc = c[i*ldc+j]
			}
			for l := range k {
				acc = fma32(a[i*rs+l*cs], b[l*panelCols+j], acc)
			}
			c[i*ldc+j] = acc
		}
	}
}

// gemmPanelsRef is gemmTileRef over several panels of b, ldp elements apart.
func gemmPanelsRef(c []float32, ldc int, a []float32, rs, cs int, b []float32, ldp, k, rows, panels int, first bool) {
	for p := range panels {
		gemmTileRef(c[p*panelCols:], ldc, a, rs, cs, b[p*ldp:], k, rows, first)
	}
}

// gemmTilesRef is gemmTileRef over several tiles of six rows, ts elements of a apart.
func gemmTilesRef(c []float32, ldc int, a []float32, rs, cs int, b []float32, k, tiles, ts int, first bool) {
	for t := range tiles {
		gemmTileRef(c[t*tileRows*ldc:], ldc, a[t*ts:], rs, cs, b, k, tileRows, first)
	}
}

// packCopyRef copies cols columns of k rows: dst[cols*l+j] = src[l*ld+j].
func packCopyRef(dst, src []float32, ld, k, cols int) {
	for l := range k {
		copy(dst[l*cols:(l+1)*cols], src[l*ld:])
	}
}

// packTransposeRef transposes rows rows: dst[rows*l+j] = src[j*ld+l] for l < k.
func packTransposeRef(dst, src []float32, ld, k, rows int) {
	for l := range k {
		for j := range rows {
			dst[l*rows+j] = src[j*ld+l]
		}
	}
}

// packSliversRef packs slivers of rows adjacent columns: dst[s*stride+rows*l+i] = src[l*ld+rows*s+i].
func packSliversRef(dst []float32, stride int, src []float32, ld, k, slivers, rows int) {
	for s := range slivers {
		packCopyRef(dst[s*stride:], src[rows*s:], ld, k, rows)
	}
}

// copyRowsRef copies rows of k elements.
func copyRowsRef(dst []float32, stride int, src []float32, ld, k, rows int) {
	for i := range rows {
		copy(dst[i*stride:i*stride+k], src[i*ld:])
	}
}

// gemm512Ref is what the AVX-512 micro-kernels of so many rows compute.
func gemm512Ref(rows int) gemm512Kernel {
	return func(c []float32, ldc int, a []float32, rs, cs int, b []float32, ldp, k, tiles, ts int, _ []float32, cols int, first bool) {
		for t := range tiles {
			for j := 0; j < cols; j += panelCols {
				for i := range rows {
					for x := range min(panelCols, cols-j) {
						at := (t*rows+i)*ldc + j + x
						acc := c[at]
						if first {
							acc = 0
						}
						for l := range k {
							acc = fma32(a[t*ts+i*rs+l*cs], b[j/panelCols*ldp+l*panelCols+x], acc)
						}
						c[at] = acc
					}
				}
			}
		}
	}
}
