package simd

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// gops reports giga-operations a second (2*M*K*tokens, the activations' quantization included) and the share of the
// limit, which is measured between the timed pieces. Both are those of the fastest piece of about 0.1 ms: on a busy
// machine the others measure the neighbors.
func gops(b *testing.B, m, k, n int, run func()) {
	b.Helper()
	gopsOf(b, AVX2, m, k, n, run)
}

// gopsOf is gops with the limit of an instruction set.
func gopsOf(b *testing.B, isa ISA, m, k, n int, run func()) {
	b.Helper()
	const peakOps = 3072e4
	ops := 2 * float64(m) * float64(k) * float64(n)
	inner := max(1, int(2e7/ops))
	best, limit := time.Hour, time.Hour
	run()
	for b.Loop() {
		start := time.Now()
		for range inner {
			run()
		}
		best = min(best, time.Since(start))
		start = time.Now()
		peakOf(isa, peakOps)
		limit = min(limit, time.Since(start))
	}
	rate, peak := ops*float64(inner)/best.Seconds()/1e9, peakOps/limit.Seconds()/1e9
	b.ReportMetric(rate, "GOPS")
	b.ReportMetric(rate/peak, "of-peak")
	b.ReportMetric(0, "ns/op")
}

// peakOf does so many multiplications and additions, at the rate that no kernel of an instruction set exceeds.
func peakOf(isa ISA, ops int) {
	if isa == AVX512 {
		DotProductPeak(ops / 3072)
		return
	}
	MultiplyAddPeak(ops / 768)
}

func BenchmarkTernary(b *testing.B) {
	needVectors(b)
	for _, isa := range []ISA{AVX2, AVX512} {
		b.Run("isa="+isa.String(), func(b *testing.B) {
			needISA(b, isa)
			for _, n := range []int{1, 2, 3, 4, 8, 16, 32, 64, 96} {
				for _, size := range []int{128, 256, 512, 1024, 2048, 4096} {
					b.Run(fmt.Sprintf("tokens=%d/%dx%d", n, size, size), func(b *testing.B) { benchMatMul(b, isa, size, size, 128, n) })
				}
			}
			for _, n := range []int{1, 96} {
				b.Run(fmt.Sprintf("tokens=%d/4096x4096,group=row", n), func(b *testing.B) { benchMatMul(b, isa, 4096, 4096, 4096, n) })
				b.Run(fmt.Sprintf("tokens=%d/4096x4096,group=64", n), func(b *testing.B) { benchMatMul(b, isa, 4096, 4096, 64, n) })
			}
		})
	}
}

func benchMatMul(b *testing.B, isa ISA, m, k, group, n int) {
	b.Helper()
	r := rand.New(rand.NewPCG(31, 1))
	x := newMatrix(b, r, m, k, group)
	x.t.ISA = isa
	rows := random(r, n*k)
	tok := x.t.Tokens(make([]byte, x.t.TokenBytes(n)), n)
	y := make([]float32, m*n)
	gopsOf(b, isa, m, k, n, func() {
		for i := range n {
			x.t.Quantize(&tok, i, rows[i*k:(i+1)*k])
		}
		x.t.MatMul(y, m, x.packed, &tok, 0, x.t.RowBlocks(), 0, n)
	})
}

func BenchmarkTernaryScalarLoop(b *testing.B) {
	r := rand.New(rand.NewPCG(32, 1))
	for _, size := range []int{128, 1024} {
		x := newMatrix(b, r, size, size, 128)
		k := x.tokens(r, 1)
		y := make([]float32, size)
		b.Run(fmt.Sprintf("%dx%d", size, size), func(b *testing.B) {
			gops(b, size, size, 1, func() {
				for row := range y {
					codes, scales := x.row(row)
					y[row] = ternaryRef(codes, scales, 128, k.Q, k.Scales[0])
				}
			})
		})
	}
}

// fastest reports the time of run in the fastest of many pieces.
func fastest(b *testing.B, run func()) {
	b.Helper()
	const inner = 500
	best := time.Hour
	for b.Loop() {
		start := time.Now()
		for range inner {
			run()
		}
		best = min(best, time.Since(start))
	}
	b.ReportMetric(float64(best.Nanoseconds())/inner, "best-ns")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkQuantize(b *testing.B) {
	needVectors(b)
	r := rand.New(rand.NewPCG(33, 1))
	for _, k := range []int{128, 4096} {
		t, _ := NewTernary(16, k, 128)
		tok := t.Tokens(make([]byte, t.TokenBytes(1)), 1)
		row := random(r, k)
		for _, isa := range []ISA{AVX2, AVX512} {
			b.Run(fmt.Sprintf("isa=%s/%d", isa, k), func(b *testing.B) {
				needISA(b, isa)
				t.ISA = isa
				fastest(b, func() { t.Quantize(&tok, 0, row) })
			})
		}
	}
}
