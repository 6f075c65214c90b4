package simd

// shuffleTablesRef makes the table of each pair of activations: for the codes c0 and c1, level+1 each, entry c0+4*c1 has
// (c0-1)*q0 + (c1-1)*q1 + 254, its low byte among the first 16 bytes and its high byte among the others.
func shuffleTablesRef(tables []byte, q []int8) {
	for i := range len(tables) / pairBytes {
		for e := range 16 {
			v := (e&3-1)*int(q[2*i]) + (e>>2-1)*int(q[2*i+1]) + 254
			tables[i*pairBytes+e], tables[i*pairBytes+16+e] = byte(v), byte(v>>8)
		}
	}
}

// shuffleRowsRef multiplies the packed blocks of len(y) rows by one token. A group is per blocks of 4*steps columns.
func shuffleRowsRef(y []float32, w, tables []byte, act []float32, groups, per, steps int) {
	groupBytes := ShuffleRows * (per*steps + 4)
	for row := range y {
		block := w[row/ShuffleRows*groups*groupBytes:]
		r, acc := row%ShuffleRows, float32(0)
		for g := range groups {
			var sum int32
			for j := range per * steps {
				v := block[j*ShuffleRows+shuffleByte(r)]
				at := (g*per*steps + j) * 2 * pairBytes
				for _, e := range []int{at + int(v&15), at + pairBytes + int(v>>4)} {
					sum += int32(tables[e]) + int32(tables[e+16])<<8 - 254
				}
			}
			acc = fma32(float32(sum), loadFloat(block[ShuffleRows*per*steps+4*r:]), acc)
			block = block[groupBytes:]
		}
		y[row] = acc * act[0]
	}
}
