package simd

// PackedBLen is the number of floats of a packed op(B) [k,n]: panels of 16 columns, each [k][16], the last one padded
// with zeros.
func PackedBLen(n, k int) int { return ceilDiv(n, panelCols) * panelCols * k }

// PackB packs panels lo..hi-1 of B, which is [k,n], or [n,k] if trans, into dst of PackedBLen floats. Panels are
// independent: a worker pool may split ceil(n/16) of them as it likes.
func PackB(dst, b []float32, n, k int, trans bool, lo, hi int) {
	if k == 0 {
		return
	}
	if trans {
		for p := lo; p < hi; p++ {
			packRows(dst[p*panelCols*k:(p+1)*panelCols*k], b[p*panelCols*k:], k, k, min(panelCols, n-p*panelCols))
		}
		return
	}
	if tail := n % panelCols; tail > 0 && hi*panelCols > n {
		hi--
		packCols(dst[hi*panelCols*k:(hi+1)*panelCols*k], b[hi*panelCols:], n, k, tail)
	}
	const group = 8 // panels at a time: as many streams are written while rows are read in order
	for p := lo; p < hi; p += group {
		packCopy16(dst[p*k*panelCols:], k*panelCols, b[p*panelCols:], n, k, min(group, hi-p))
	}
}

// RowPanels is the source of the panels of b, row-major with n columns.
func RowPanels(b []float32, n int) PanelSource {
	return func(dst []float32, lo, hi, k0, k int) {
		if k <= 0 {
			return
		}
		if tail := n % panelCols; tail > 0 && hi*panelCols > n {
			hi--
			packCols(dst[(hi-lo)*panelCols*k:(hi-lo+1)*panelCols*k], b[k0*n+hi*panelCols:], n, k, tail)
		}
		const group = 2 // panels at a time: the processor fetches lines in pairs, and more streams are written to the same sets
		for p := lo; p < hi; p += group {
			packCopy16(dst[(p-lo)*panelCols*k:], k*panelCols, b[k0*n+p*panelCols:], n, k, min(group, hi-p))
		}
	}
}

// columnPanels is the source of the panels of b transposed: b is row-major [n,k].
func columnPanels(b []float32, n, ld int) PanelSource {
	return func(dst []float32, lo, hi, k0, k int) {
		for p := lo; p < hi; p++ {
			at := p * panelCols
			packRows(dst[(p-lo)*panelCols*k:(p-lo+1)*panelCols*k], b[at*ld+k0:], ld, k, min(panelCols, n-at))
		}
	}
}

// packCols packs cols <= 16 adjacent columns of k rows, ld apart, as one panel.
func packCols(dst, src []float32, ld, k, cols int) {
	if cols == panelCols {
		if k > 0 {
			packCopy16(dst, panelCols*k, src, ld, k, 1)
		}
		return
	}
	for l := range k {
		d := dst[l*panelCols : (l+1)*panelCols]
		copy(d[:cols], src[l*ld:])
		clear(d[cols:])
	}
}

// packRows packs rows <= 16 rows of k elements, ld apart, as one panel [k][16].
func packRows(dst, src []float32, ld, k, rows int) {
	done := 0
	if rows == panelCols && k >= 8 {
		done = k &^ 7
		packTranspose16(dst, src, ld, done)
	}
	for l := done; l < k; l++ {
		d := dst[l*panelCols : (l+1)*panelCols]
		for j := range rows {
			d[j] = src[j*ld+l]
		}
		clear(d[rows:])
	}
}

// packRowsA copies rows of k elements, ld apart, to a place where they are stride apart.
func packRowsA(dst []float32, stride int, src []float32, ld, k, rows int) {
	if k >= 8 && rows > 0 {
		copyRows(dst, stride, src, ld, k, rows)
		return
	}
	copyRowsRef(dst, stride, src, ld, k, rows)
}

// packA packs rows columns of a transposed A ([k][ld]) into slivers [k][tile], the last one only as far as it exists.
func packA(dst, src []float32, ld, k, rows, tile int) {
	full := rows / tile
	switch {
	case full == 0 || k == 0:
	case tile == tileRows:
		packSlivers6(dst, tile*k, src, ld, k, full)
	default:
		packSlivers12(dst, tile*k, src, ld, k, full)
	}
	rest := rows % tile
	for l := range k {
		for i := range rest {
			dst[full*tile*k+l*tile+i] = src[l*ld+full*tile+i]
		}
	}
}
