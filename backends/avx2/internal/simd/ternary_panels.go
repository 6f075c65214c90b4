package simd

// PackPanels writes panels lo to hi of the matrix as the right operand of a product: it is PackB of the dequantized
// [M, K], without that matrix in between. dst has PackedBLen(K, M) floats.
func (t *Ternary) PackPanels(dst []float32, codes []byte, scales []float32, lo, hi int) {
	for p := lo; p < hi; p++ {
		panel := dst[p*t.M*panelCols : (p+1)*t.M*panelCols]
		g := p * panelCols / t.Group
		for row := range t.M {
			at := (row*t.K + p*panelCols) / 4
			dequantVec(panel[row*panelCols:(row+1)*panelCols], codes[at:at+panelCols/4], scales[row*t.groups+g])
		}
	}
}
