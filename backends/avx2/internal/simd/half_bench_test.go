package simd

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ternlm/tern/framework/tensor"
)

// BenchmarkAttentionOfOneToken reads the keys and values of twelve layers, which a sweep over the weights of a model has
// pushed out of the nearer caches.
func BenchmarkAttentionOfOneToken(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, pos := range []int{64, 128, 1024} {
		for _, half := range []bool{false, true} {
			b.Run(fmt.Sprintf("pos=%d/half=%v", pos, half), func(b *testing.B) {
				a := Attention{B: 1, T: 1, S: 2048, H: 12, KV: 12, D: 64, Workers: 1, Half: half}
				var layers []Phase
				for range 12 {
					k, v := randomRows(r, a.S*a.KV*a.D, half), randomRows(r, a.S*a.KV*a.D, half)
					q := randFloats(r, a.H*a.D, 1)
					layers = append(layers, a.Phases(q, k, v, []int32{int32(pos)}, make([]float32, len(q)), make([]byte, a.ScratchBytes()))...)
				}
				weights := make([]byte, 33<<20)
				sum := byte(0)
				best := time.Hour
				for b.Loop() {
					b.StopTimer()
					for i := 0; i < len(weights); i += 64 {
						sum += weights[i]
					}
					b.StartTimer()
					begin := time.Now()
					for _, l := range layers {
						l.Do(0, l.Items)
					}
					best = min(best, time.Since(begin))
				}
				b.ReportMetric(float64(best.Nanoseconds()), "best-ns/op")
				weights[0] = sum
			})
		}
	}
}

// BenchmarkHalfPanels multiplies one token by an f16 output layer.
func BenchmarkHalfPanels(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n, k = 50257, 768
	w := HalfPanels(tensor.View[uint16](tensor.AlignedBytes(2 * HalfPanelLen(n, k))))
	w.Pack(randomRows(r, n*k, true).F16, n, k, 0, ceilDiv(n, panelCols))
	x, y := randFloats(r, k, 1), make([]float32, n)
	b.SetBytes(2 * n * k)
	for b.Loop() {
		w.Dots(y, x, n, k, 0, ceilDiv(n, panelCols))
	}
}

func randomRows(r *rand.Rand, n int, half bool) Rows {
	f := randFloats(r, n, 1)
	if !half {
		c := tensor.View[float32](tensor.AlignedBytes(4 * n))
		copy(c, f)
		return Rows{F32: c}
	}
	h := tensor.View[uint16](tensor.AlignedBytes(2 * n))
	F32ToF16(h, f)
	return Rows{F16: h}
}
