package simd

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// compareSpeed reports the time of got on 1,024 elements and how many times the reference loop takes, the two
// interleaved and each in its fastest piece.
func compareSpeed(b *testing.B, got, want func()) {
	b.Helper()
	const inner = 50
	fast, slow := time.Hour, time.Hour
	got()
	for b.Loop() {
		start := time.Now()
		for range inner {
			got()
		}
		middle := time.Now()
		want()
		fast, slow = min(fast, middle.Sub(start)), min(slow, time.Since(middle))
	}
	ns := float64(fast.Nanoseconds()) / inner
	b.ReportMetric(ns, "best-ns")
	b.ReportMetric(float64(slow.Nanoseconds())/ns, "x-loop")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkVector(b *testing.B) {
	needVectors(b)
	const n = 1024
	r := rand.New(rand.NewPCG(41, 1))
	x, y, z, w, d := random(r, n), random(r, n), random(r, n), random(r, n), make([]float32, n)
	m, v := make([]float32, n), make([]float32, n)
	for _, c := range []struct {
		name      string
		got, want func()
	}{
		{"add", func() { Add(d, x, y) }, func() {
			for i := range d {
				d[i] = x[i] + y[i]
			}
		}},
		{"axpy", func() { Axpy(d, x, 1e-9) }, func() {
			for i := range d {
				d[i] += 1e-9 * x[i]
			}
		}},
		{"dot", func() { Dot(x, y) }, func() {
			var s float32
			for i := range x {
				s += x[i] * y[i]
			}
			d[0] = s
		}},
		{"exp", func() { Exp(d, x) }, func() {
			for i := range d {
				d[i] = float32(math.Exp(float64(x[i])))
			}
		}},
		{"swiglu", func() { SwiGLU(d, x, y) }, func() {
			for i := range d {
				d[i] = x[i] / (1 + float32(math.Exp(-float64(x[i])))) * y[i]
			}
		}},
		{"swigluGrad", func() { SwiGLUGrad(d, m, x, y, z) }, func() { swigluGradRef(d, m, x, y, z) }},
		{"softmax", func() { SoftmaxRow(d, x) }, func() { softmax64(wide(x)) }},
		{"rmsnorm", func() { RMSNormRow(d, x, w, 1e-6) }, func() {
			var s float32
			for _, v := range x {
				s += v * v
			}
			s = 1 / sqrt32(s/n+1e-6)
			for i := range d {
				d[i] = x[i] * s * w[i]
			}
		}},
		{"adamw", func() { AdamW(d, m, v, d, m, v, x, 1e-9, 0.9, 0.95, 1e-8, 0.1, 0.5, 0.5) }, func() {
			adamWRef(d, m, v, d, m, v, x, 1e-9, 0.9, 0.1, 0.95, 0.05, 1e-8, 0.1, 0.5, 0.5)
		}},
	} {
		b.Run(c.name, func(b *testing.B) { compareSpeed(b, c.got, c.want) })
	}
}
