package simd

import "github.com/ternlm/tern/framework/tensor"

// HalfPanels are f16 weights [N,K] in panels of 16 rows: element l of row 16p+j is at 16(pK+l)+j; rows after the last
// are zeros. Sixteen products are then sixteen lanes, as the elements lie.
type HalfPanels []uint16

// HalfPanelLen is the number of elements of the panels of weights [n,k].
func HalfPanelLen(n, k int) int { return PackedBLen(n, k) }

// Pack fills panels lo to hi-1 from the rows src [n,k].
func (p HalfPanels) Pack(src []uint16, n, k, lo, hi int) {
	for ; lo < hi; lo++ {
		panel := p[lo*panelCols*k : (lo+1)*panelCols*k]
		rows := src[lo*panelCols*k:]
		if n-lo*panelCols < panelCols {
			clear(panel)
		}
		for j := 0; j < min(panelCols, n-lo*panelCols); j += 4 {
			if j+4 <= n-lo*panelCols && k%4 == 0 {
				packHalf4(panel[j:], rows[j*k:], k)
				continue
			}
			for i := j; i < min(j+4, n-lo*panelCols); i++ {
				for l, v := range rows[i*k : (i+1)*k] {
					panel[panelCols*l+i] = v
				}
			}
		}
	}
}

// packHalf4 writes four rows of k elements, a multiple of 4, to lanes 0 to 3 of a panel: four by four elements are turned
// in four words.
func packHalf4(panel, rows []uint16, k int) {
	const low, even = 0x0000ffff0000ffff, 0x00000000ffffffff
	word := func(at int) uint64 {
		r := rows[at : at+4 : at+4]
		return uint64(r[0]) | uint64(r[1])<<16 | uint64(r[2])<<32 | uint64(r[3])<<48
	}
	put := func(at int, v uint64) {
		d := panel[at : at+4 : at+4]
		d[0], d[1], d[2], d[3] = uint16(v), uint16(v>>16), uint16(v>>32), uint16(v>>48)
	}
	for l := 0; l < k; l += 4 {
		a, b, c, d := word(l), word(k+l), word(2*k+l), word(3*k+l)
		ab0, ab1 := a&low|b&low<<16, a>>16&low|b&^low
		cd0, cd1 := c&low|d&low<<16, c>>16&low|d&^low
		put(panelCols*l, ab0&even|cd0<<32)
		put(panelCols*(l+1), ab1&even|cd1<<32)
		put(panelCols*(l+2), ab0>>32|cd0&^even)
		put(panelCols*(l+3), ab1>>32|cd1&^even)
	}
}

// Dots sets dst[i] to the product of x, of k elements, with row 16*lo+i, for the rows of panels lo to hi-1 that weights
// of n rows have. A product is one chain of fused multiply-adds over ascending k from zero, as in Gemm.
func (p HalfPanels) Dots(dst, x []float32, n, k, lo, hi int) {
	if lo >= hi {
		return
	}
	whole := hi
	if hi*panelCols > n {
		whole--
	}
	x = x[:k]
	if k%4 == 0 && k > 0 {
		panelDotsHalf(dst[:(whole-lo)*panelCols], x, p[lo*panelCols*k:], k, whole-lo)
	} else {
		panelDotsHalfRef(dst, x, p[lo*panelCols*k:], k, whole-lo)
	}
	if whole < hi {
		var last [panelCols]float32
		panelDotsHalfRef(last[:], x, p[whole*panelCols*k:], k, 1)
		copy(dst[(whole-lo)*panelCols:n-lo*panelCols], last[:])
	}
}

// Row sets dst to row r of k elements.
func (p HalfPanels) Row(dst []float32, k, r int) {
	at := p[r/panelCols*panelCols*k+r%panelCols:]
	for l := range dst[:k] {
		dst[l] = tensor.F16ToF32(at[panelCols*l])
	}
}

// PackPanels widens steps k0 to k0+steps-1 of panels lo to hi-1 into dst, as PanelSource does.
func (p HalfPanels) PackPanels(dst []float32, k, lo, hi, k0, steps int) {
	for at := 0; lo < hi; lo++ {
		F16ToF32(dst[at:at+panelCols*steps], p[panelCols*(lo*k+k0):])
		at += panelCols * steps
	}
}
