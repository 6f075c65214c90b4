package quant

import (
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// int4Top is the highest level: seven on either side of zero, so that a weight
// and its negative round alike.
const int4Top = 7

func init() {
	framework.Quantizers.Register("int4", func(o framework.Options) (framework.Quantizer, error) {
		s, err := openScaling(o)
		return Int4(s), err
	})
}

// Int4 quantizes to the integers from -7 to 7 by the largest magnitude of a
// group:
//
//	scale = max(max|w|/7, floor)
//	code  = clamp(round(w/scale), -7, 7), half to even
//
// The scale is a constant of the backward pass.
type Int4 Scaling

// Spec returns the full spec, such as "int4:group=128,scale=f16".
func (q Int4) Spec() string { return Scaling(q).spec("int4") }

// Format is four-bit codes over the levels -7 to 7 with 8-bit activations.
func (q Int4) Format() framework.Format {
	levels := make([]int8, 2*int4Top+1)
	for i := range levels {
		levels[i] = int8(i - int4Top)
	}
	return framework.Format{Bits: 4, Levels: levels, Group: q.Group, F16: !q.F32, ActBits: 8, Density: 3.907}
}

// Pack quantizes w f32 [M,K].
func (q Int4) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	return Scaling(q).pack(b, w, q.Format(),
		func(x graph.Value) graph.Value { return b.Scale(b.AMax(b.Abs(x), 2), 1.0/int4Top) },
		func(x, s graph.Value) graph.Value { return nearest(b, x, s, int4Top) })
}
