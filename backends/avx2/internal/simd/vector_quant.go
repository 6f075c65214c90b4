package simd

import "math"

// F16ToF32 widens binary16 values, bit for bit as tensor.F16ToF32.
func F16ToF32(dst []float32, x []uint16) {
	n := len(dst) &^ 7
	x = x[:len(dst)]
	f16ToF32Vec(dst[:n], x[:n])
	if n == len(dst) {
		return
	}
	var in [8]uint16
	var out [8]float32
	copy(in[:], x[n:])
	f16ToF32Vec(out[:], in[:])
	copy(dst[n:], out[:])
}

// F32ToF16 rounds to binary16 half to even, bit for bit as tensor.F32ToF16.
func F32ToF16(dst []uint16, x []float32) {
	n := len(dst) &^ 7
	x = x[:len(dst)]
	f32ToF16Vec(dst[:n], x[:n])
	if n == len(dst) {
		return
	}
	var in [8]float32
	var out [8]uint16
	copy(in[:], x[n:])
	f32ToF16Vec(out[:], in[:])
	copy(dst[n:], out[:])
}

// QuantizeScale returns the scale of a row of activations, max(absmax, 1e-8) * (1/127), as the expansion of the int8
// operation computes it; NaN or infinite if an element is.
func QuantizeScale(x []float32) float32 { return float32(max(absMaxVec(x), 1e-8) * (1.0 / 127)) }

// QuantizeRow sets q = clamp(round_half_even(x/scale), -127, 127) with scale = QuantizeScale(x), which it returns. -128
// never occurs: the ternary kernels' 16-bit sums rely on it. A row with a NaN or an infinity gives zeros and the scale
// NaN, so that all that is computed with it is NaN.
func QuantizeRow(q []int8, x []float32) (scale float32) {
	x = x[:len(q)]
	scale = QuantizeScale(x)
	if scale-scale != 0 {
		clear(q)
		return float32(math.NaN())
	}
	quantizeVec(q, x, scale)
	return scale
}

// FakeQuantRow sets dst = round_half_even(x/scale)*scale, clamped to 127 steps, with scale = QuantizeScale(x), which it
// returns.
func FakeQuantRow(dst, x []float32) (scale float32) {
	x = x[:len(dst)]
	scale = QuantizeScale(x)
	fakeQuantVec(dst, x, scale)
	return scale
}
