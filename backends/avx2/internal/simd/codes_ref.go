package simd

// ternaryLevels are what two-bit codes of ternary levels stand for.
var ternaryLevels = [4]int8{-1, 0, 1, 0}

// ternaryPanelsRef is what ternaryPanels does.
func ternaryPanelsRef(dst []float32, ldp int, codes []byte, ldc int, scales []float32, lds, rows, panels int) {
	for r := range rows {
		for p := range panels {
			at := r*ldc + 4*p
			for j := range panelCols {
				code := int(codes[at+j/4]>>(j%4*2)) & 3
				dst[p*ldp+r*panelCols+j] = float32(ternaryLevels[code]) * scales[r*lds]
			}
		}
	}
}

// encodeTernaryRef is what encodeTernaryVec does, for any number of whole bytes.
func encodeTernaryRef(dst []byte, x []float32) {
	for i := range dst {
		var b byte
		for j, v := range x[4*i : 4*i+4] {
			code := byte(0)
			switch {
			case v > 0.5:
				code = 2
			case v > -0.5:
				code = 1
			}
			b |= code << (2 * j)
		}
		dst[i] = b
	}
}

// bookPanelsRef is what bookPanels does.
func bookPanelsRef(dst []float32, ldp int, codes []byte, ldc int, scales []float32, lds, rows, panels int, values *[16]float32) {
	for r := range rows {
		for p := range panels {
			at := r*ldc + 8*p
			for j := range panelCols {
				code := codes[at+j/2] >> (j % 2 * 4) & 15
				dst[p*ldp+r*panelCols+j] = values[code] * scales[r*lds]
			}
		}
	}
}

// encodeBookRef is what encodeBookVec does.
func encodeBookRef(dst []byte, x []float32, over *[16]float32) (wild bool) {
	for i := range dst {
		var b byte
		for j, v := range x[2*i : 2*i+2] {
			code := byte(0)
			for _, t := range over[:15] {
				if v > t {
					code++
				}
			}
			b |= code << (4 * j)
			wild = wild || !(v < wildest && v > -wildest)
		}
		dst[i] = b
	}
	return wild
}
