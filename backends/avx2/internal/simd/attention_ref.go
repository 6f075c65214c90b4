package simd

import "math"

// lanesSum adds eight lanes in the order of the assembly.
func lanesSum(l *[8]float32) float32 {
	a, b, c, d := l[0]+l[4], l[1]+l[5], l[2]+l[6], l[3]+l[7]
	return (a + c) + (b + d)
}

// attnMaxRef is the largest of x[:n], or -Inf.
func attnMaxRef(x []float32, n int) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x[:n] {
		if v > m {
			m = v
		}
	}
	return m
}

// attnExp1Ref is e**x for x <= 0: Cephes' expf with fused multiply-adds, and 0 below the least normal number.
func attnExp1Ref(x float32) float32 {
	if x < -87.336 {
		return 0
	}
	n := float32(math.RoundToEven(float64(float32(math.Log2E) * x)))
	r := fma32(2.12194440e-4, n, fma32(-0.693359375, n, x))
	p := float32(1.9875691500e-4)
	for _, c := range [...]float32{1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		p = fma32(p, r, c)
	}
	p = fma32(p, r*r, r+1)
	return float32(p * math.Float32frombits(uint32(int32(n)+127)<<23))
}

// attnExpRef replaces x[j] by exp((x[j]-top)*scale) for j < n, by 0 up to width, and returns the sum.
func attnExpRef(x []float32, n, width int, scale, top float32) float32 {
	var lanes [8]float32
	for j := range n {
		x[j] = attnExp1Ref((x[j] - top) * scale)
		lanes[j%8] += x[j]
	}
	clear(x[n:max(n, width)])
	return lanesSum(&lanes)
}

// attnGradRef goes back through a softmax row.
func attnGradRef(p, dp []float32, n, width int, inv, scale float32) {
	var lanes [8]float32
	for j := range n {
		p[j] *= inv
		lanes[j%8] = fma32(p[j], dp[j], lanes[j%8])
	}
	delta := lanesSum(&lanes)
	for j := range n {
		dp[j] = float32(p[j]*(dp[j]-delta)) * scale
	}
	clear(p[n:max(n, width)])
	clear(dp[n:max(n, width)])
}

// attnScaleRef sets dst[j] = x[j]*c + 0, rounded after each step.
func attnScaleRef(dst, x []float32, n int, c float32) {
	for j := range n {
		dst[j] = float32(x[j]*c) + 0
	}
}
