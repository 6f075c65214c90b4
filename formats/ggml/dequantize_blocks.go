package ggml

// What dequantize_row functions of ggml-quants.c compute for one block. Levels
// are of few bits and scales f16 values, so that the products are exact: only the
// sums round, and it does not matter whether a processor fuses them.

func dequantQ4_0(dst []float32, block []byte) {
	y, q, d := (*[32]float32)(dst), (*[16]byte)(block[2:]), half(block)
	for i, b := range q {
		y[i] = float32(float32(int32(b&15)-8) * d)
		y[i+16] = float32(float32(int32(b>>4)-8) * d)
	}
}

func dequantQ4_1(dst []float32, block []byte) {
	y, q, d, m := (*[32]float32)(dst), (*[16]byte)(block[4:]), half(block), half(block[2:])
	for i, b := range q {
		y[i] = float32(float32(int32(b&15))*d) + m
		y[i+16] = float32(float32(int32(b>>4))*d) + m
	}
}

func dequantQ5_0(dst []float32, block []byte) {
	y, q, d := (*[32]float32)(dst), (*[16]byte)(block[6:]), half(block)
	high := le.Uint32(block[2:]) // the fifth bits
	for i, b := range q {
		low, upper := uint32(b&15)|high&1<<4, uint32(b>>4)|high>>16&1<<4
		y[i] = float32(float32(int32(low)-16) * d)
		y[i+16] = float32(float32(int32(upper)-16) * d)
		high >>= 1
	}
}

func dequantQ5_1(dst []float32, block []byte) {
	y, q, d, m := (*[32]float32)(dst), (*[16]byte)(block[8:]), half(block), half(block[2:])
	high := le.Uint32(block[4:]) // the fifth bits
	for i, b := range q {
		low, upper := uint32(b&15)|high&1<<4, uint32(b>>4)|high>>16&1<<4
		y[i] = float32(float32(int32(low))*d) + m
		y[i+16] = float32(float32(int32(upper))*d) + m
		high >>= 1
	}
}

func dequantQ8_0(dst []float32, block []byte) {
	y, q, d := (*[32]float32)(dst), (*[32]byte)(block[2:]), half(block)
	for i, b := range q {
		y[i] = float32(float32(int8(b)) * d)
	}
}

// scaleMin returns 6-bit scale and minimum j < 8 of the twelve bytes q of Q4_K and
// Q5_K. The first four are the low bits of bytes j and j + 4, whose high bits are
// those of the last four; their low bits are the nibbles of byte j + 4.
func scaleMin(j int, q []byte) (scale, minimum int32) {
	if j < 4 {
		return int32(q[j] & 63), int32(q[j+4] & 63)
	}
	return int32(q[j+4]&15 | q[j-4]>>6<<4), int32(q[j+4]>>4 | q[j]>>6<<4)
}

func dequantQ4_K(dst []float32, block []byte) {
	d, dmin := half(block), half(block[2:])
	for j := range 4 { // 64 weights: the low nibbles of 32 bytes, then the high ones
		y, q := (*[64]float32)(dst[64*j:]), (*[32]byte)(block[16+32*j:])
		d1, m1 := superScale(d, dmin, 2*j, block)
		d2, m2 := superScale(d, dmin, 2*j+1, block)
		for i, b := range q {
			y[i] = float32(d1*float32(int32(b&15))) - m1
			y[i+32] = float32(d2*float32(int32(b>>4))) - m2
		}
	}
}

// superScale returns scale and minimum of 32 weights of Q4_K and Q5_K.
func superScale(d, dmin float32, j int, block []byte) (scale, minimum float32) {
	s, m := scaleMin(j, block[4:16])
	return float32(d * float32(s)), float32(dmin * float32(m))
}

func dequantQ5_K(dst []float32, block []byte) {
	d, dmin, high := half(block), half(block[2:]), (*[32]byte)(block[16:])
	for j := range 4 {
		y, q := (*[64]float32)(dst[64*j:]), (*[32]byte)(block[48+32*j:])
		d1, m1 := superScale(d, dmin, 2*j, block)
		d2, m2 := superScale(d, dmin, 2*j+1, block)
		for i, b := range q {
			h := high[i] >> (2 * j) // the fifth bits
			y[i] = float32(d1*float32(int32(b&15|h&1<<4))) - m1
			y[i+32] = float32(d2*float32(int32(b>>4|h&2<<3))) - m2
		}
	}
}

func dequantQ6_K(dst []float32, block []byte) {
	d := half(block[208:])
	for j := range 2 { // 128 weights
		y, low := (*[128]float32)(dst[128*j:]), (*[64]byte)(block[64*j:])
		high, scales := (*[32]byte)(block[128+32*j:]), (*[8]byte)(block[192+8*j:])
		var s [8]float32
		for i, v := range scales {
			s[i] = float32(d * float32(int8(v)))
		}
		for i, h := range high {
			a, b := low[i], low[i+32]
			y[i] = float32(s[i/16] * float32(int32(a&15|h&3<<4)-32))
			y[i+32] = float32(s[2+i/16] * float32(int32(b&15|h>>2&3<<4)-32))
			y[i+64] = float32(s[4+i/16] * float32(int32(a>>4|h>>4&3<<4)-32))
			y[i+96] = float32(s[6+i/16] * float32(int32(b>>4|h>>6<<4)-32))
		}
	}
}

func dequantQ2_0(dst []float32, block []byte) { expand(dst, block[2:18], half(block)) }

func dequantTQ1_0(dst []float32, block []byte) {
	var codes [64]byte
	unpackTQ1(codes[:], block)
	expand(dst, codes[:], half(block[tq1.scale:]))
}

func dequantTQ2_0(dst []float32, block []byte) {
	var codes [64]byte
	unpackTQ2(codes[:], block)
	expand(dst, codes[:], half(block[tq2.scale:]))
}

// expand writes the weights of codes u2, code = level + 1.
func expand(dst []float32, codes []byte, d float32) {
	w := [4]float32{-d, float32(0 * d), d, float32(2 * d)}
	for i, c := range codes {
		y := (*[4]float32)(dst[4*i:])
		y[0], y[1], y[2], y[3] = w[c&3], w[c>>2&3], w[c>>4&3], w[c>>6]
	}
}
