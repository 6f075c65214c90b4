package simd

import "math"

const (
	ln2Hi    = 0x1.62e430p-1
	ln2Lo    = -0x1.05c610p-29
	expMagic = 3 << 22 // adding it rounds a float32 to an integer
)

// expPoly and logPoly are those of Cephes expf and logf (S. Moshier), highest power first.
var (
	expPoly = [6]float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}
	logPoly = [9]float32{7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1}
)

func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }

func round32(x float32) float32 { return float32(math.RoundToEven(float64(x))) }

// refExp is e^x as the assembly computes it: relative error below 1e-7 (8e-46 absolute where the result is subnormal),
// 0 below -104, +Inf above 88.73, NaN for NaN.
func refExp(x float32) float32 {
	if x != x {
		return x
	}
	x = max(min(x, 89), -105)
	t := fma32(x, math.Log2E, expMagic)
	n := t - expMagic
	x = fma32(-n, ln2Hi, x)
	x = fma32(-n, ln2Lo, x)
	p := expPoly[0]
	for _, c := range expPoly[1:] {
		p = fma32(p, x, c)
	}
	p = fma32(p, x*x, x) + 1
	k := int(n)
	return float32(p*power2(k>>1)) * power2(k-k>>1)
}

func power2(n int) float32 { return math.Float32frombits(uint32(127+n) << 23) }

func refSigmoid(x float32) float32 { return 1 / (1 + refExp(-x)) }

// refLog is the natural logarithm as the assembly computes it: relative error below 1e-7; -Inf for 0, NaN below.
func refLog(x float32) float32 {
	switch {
	case x != x || x > math.MaxFloat32:
		return x
	case x == 0:
		return float32(math.Inf(-1))
	case x < 0:
		return float32(math.NaN())
	}
	e := int32(0)
	if x < 0x1p-126 {
		x *= 0x1p23
		e = -23
	}
	bits := int32(math.Float32bits(x))
	k := (bits - 0x3f3504f3) >> 23
	e += k
	f := math.Float32frombits(uint32(bits-k<<23)) - 1
	z := f * f
	p := logPoly[0]
	for _, c := range logPoly[1:] {
		p = fma32(p, f, c)
	}
	p = float32(p*f) * z
	p = fma32(float32(e), -2.12194440e-4, p)
	p = fma32(-0.5, z, p)
	return fma32(float32(e), 0.693359375, f+p)
}

// refQuantize is clamp(round_half_even(x/scale), -127, 127); NaN gives -127, so that -128 never occurs.
func refQuantize(x, scale float32) int8 {
	v := x / scale
	switch {
	case !(v >= -127):
		return -127
	case v > 127:
		return 127
	}
	return int8(math.RoundToEven(float64(v)))
}

// reduceRef folds n terms in the order of the assembly: term i in lane i%8 of accumulator (i/8)%4, the last n%8 terms in
// accumulator 3; then (0+1)+(2+3), then lanes 4, 2 and 1 apart.
func reduceRef(n int, start float32, step func(acc float32, i int) float32, fold func(x, y float32) float32) float32 {
	var acc [4][8]float32
	for a := range acc {
		for l := range acc[a] {
			acc[a][l] = start
		}
	}
	for i := range n {
		a := i / 8 % 4
		if i >= n&^7 {
			a = 3
		}
		acc[a][i%8] = step(acc[a][i%8], i)
	}
	lanes := acc[0]
	for l := range lanes {
		lanes[l] = fold(fold(acc[0][l], acc[1][l]), fold(acc[2][l], acc[3][l]))
	}
	for apart := 4; apart > 0; apart /= 2 {
		for l := range apart {
			lanes[l] = fold(lanes[l], lanes[l+apart])
		}
	}
	return lanes[0]
}

func plus(x, y float32) float32 { return x + y }

func sumRef(x []float32) float32 {
	return reduceRef(len(x), 0, func(a float32, i int) float32 { return a + x[i] }, plus)
}

func sumSquaresRef(x []float32) float32 {
	return reduceRef(len(x), 0, func(a float32, i int) float32 { return fma32(x[i], x[i], a) }, plus)
}

func dotRef(x, y []float32) float32 {
	return reduceRef(len(x), 0, func(a float32, i int) float32 { return fma32(x[i], y[i], a) }, plus)
}

func dot3Ref(x, y, z []float32) float32 {
	return reduceRef(len(x), 0, func(a float32, i int) float32 { return fma32(x[i]*y[i], z[i], a) }, plus)
}

func sumExpRef(x []float32, s float32) float32 {
	return reduceRef(len(x), 0, func(a float32, i int) float32 { return a + refExp(x[i]-s) }, plus)
}

func maxValueRef(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		m = max(m, v)
	}
	return m
}

func absMaxRef(x []float32) float32 {
	var m uint32
	for _, v := range x {
		m = max(m, math.Float32bits(v)&^(1<<31))
	}
	return math.Float32frombits(m)
}
