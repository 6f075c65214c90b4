//go:build !amd64 || purego

package simd

func attnMax(x []float32, n int) float32 { return attnMaxRef(x, n) }

func attnExp(x []float32, n, width int, scale, top float32) float32 {
	return attnExpRef(x, n, width, scale, top)
}

func attnExp512(x []float32, n, width int, scale, top float32) float32 {
	return attnExpRef(x, n, width, scale, top)
}

func attnGrad(p, dp []float32, n, width int, inv, scale float32) {
	attnGradRef(p, dp, n, width, inv, scale)
}

func attnScale(dst, x []float32, n int, c float32) { attnScaleRef(dst, x, n, c) }
