package simd

// unpackPanelRef is what unpackPanel does.
func unpackPanelRef(dst, w []byte, blocks, steps int) {
	for b := range blocks {
		block := w[b*(64*steps+64):]
		for j := range steps {
			for i, v := range block[64*j : 64*j+64] {
				for f := range 4 {
					dst[(b*steps+j)*256+64*f+i] = v >> (2 * f) & 3
				}
			}
		}
	}
}

// panelRef multiplies len(act) tokens by so many groups of one row block: y[n*ldY+r] goes on as a chain of
// fma(sum of the group, scale, y). It starts at zero if bit 0 of ends is set; with bit 1 it ends multiplied by act.
func panelRef(y []float32, ldY int, panel, scales []byte, ldS int, q []int8, ldQ int, o []int32, ldO int, act []float32, groups, per, steps, ends int) {
	for n, a := range act {
		for r := range RowBlock {
			acc := y[n*ldY+r]
			if ends&1 != 0 {
				acc = 0
			}
			for g := range groups {
				var sum int32
				for b := g * per; b < (g+1)*per; b++ {
					sum += int32(int16(o[n*ldO+b]))
					for c := range 16 * steps {
						sum += int32(panel[(b*4*steps+c/4)*64+4*r+c%4]) * int32(q[n*ldQ+16*steps*b+c])
					}
				}
				acc = fma32(float32(sum), loadFloat(scales[g*ldS+4*r:]), acc)
			}
			if ends&2 != 0 {
				acc *= a
			}
			y[n*ldY+r] = acc
		}
	}
}
