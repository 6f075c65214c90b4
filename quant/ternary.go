package quant

import (
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

func init() {
	framework.Quantizers.Register("ternary", func(o framework.Options) (framework.Quantizer, error) {
		s, err := openScaling(o)
		return Ternary(s), err
	})
}

// Ternary quantizes to {-1, 0, +1} by the mean magnitude of a group (BitNet
// b1.58, arXiv 2402.17764, by group instead of by tensor):
//
//	scale = max(mean|w|, floor)
//	code  = clamp(round(w/scale), -1, 1), half to even
//
// The scale is a constant of the backward pass.
type Ternary Scaling

// Spec returns the full spec, such as "ternary:group=128,scale=f16".
func (q Ternary) Spec() string { return Scaling(q).spec("ternary") }

// Format is two-bit codes over the levels -1, 0, +1 with 8-bit activations.
func (q Ternary) Format() framework.Format {
	return framework.Format{Bits: 2, Levels: []int8{-1, 0, 1}, Group: q.Group, F16: !q.F32, ActBits: 8, Density: 1.585}
}

// Pack quantizes w f32 [M,K].
func (q Ternary) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	return Scaling(q).pack(b, w, q.Format(),
		func(x graph.Value) graph.Value { return b.Mean(b.Abs(x), 2) },
		func(x, s graph.Value) graph.Value { return nearest(b, x, s, 1) })
}
