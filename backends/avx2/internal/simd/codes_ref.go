package simd

import "math"

// bookPanelsRef sets dst[p*ldp+r*16+j] = value * scales[r*lds] for 16 codes of so many bits, low bits first, that start at
// codes[r*ldc+2*bits*p]. The value is values[code], or the byte itself, 0 for -128.
func bookPanelsRef(bits int, dst []float32, ldp int, codes []byte, ldc int, scales []float32, lds, rows, panels int, values *[16]float32) {
	for r := range rows {
		for p := range panels {
			from := codes[r*ldc+2*bits*p:]
			for j := range panelCols {
				code := int(from[j*bits/8]>>(j*bits%8)) & (1<<bits - 1)
				v := float32(int8(code))
				if bits < 8 {
					v = values[code]
				} else if code == 0x80 {
					v = 0
				}
				dst[p*ldp+r*panelCols+j] = v * scales[r*lds]
			}
		}
	}
}

// encodeTernaryRef is the definition of EncodeTernary.
func encodeTernaryRef(dst []byte, x []float32) {
	for i := range dst {
		dst[i] = 0
		for j, v := range x[4*i : 4*i+4] {
			dst[i] |= nearest(v, []int8{-1, 0, 1}) << (2 * j)
		}
	}
}

// encodeBookRef is what encodeBookVec does, and with one bit what encodeBitsVec does.
func encodeBookRef(bits int, dst []byte, x []float32, over *[16]float32) (wild bool) {
	per := 8 / bits
	for i := range dst {
		var b byte
		for j, v := range x[per*i : per*(i+1)] {
			code := byte(0)
			for _, t := range over[:1<<bits-1] {
				if v > t {
					code++
				}
			}
			b |= code << (bits * j)
			wild = wild || !(v < wildest && v > -wildest)
		}
		dst[i] = b
	}
	return wild
}

// encodeLevelsRef is what encodeLevelsVec does.
func encodeLevelsRef(dst []int8, x []float32) {
	for i, v := range x {
		dst[i] = -127
		if v := float64(v); v > -127 {
			dst[i] = int8(min(127, math.Ceil(v-0.5)))
		}
	}
}
