package quant

import (
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// int8Top is the highest level; -128 is none, so that a weight and its
// negative round alike.
const int8Top = 127

func init() {
	framework.Quantizers.Register("int8", func(o framework.Options) (framework.Quantizer, error) {
		s, err := openScaling(o)
		return Int8(s), err
	})
}

// Int8 quantizes to the integers from -127 to 127 by the largest magnitude of
// a group:
//
//	scale = max(max|w|/127, floor)
//	code  = clamp(round(w/scale), -127, 127), half to even
//
// The scale is a constant of the backward pass.
type Int8 Scaling

// Spec returns the full spec, such as "int8:group=128,scale=f16".
func (q Int8) Spec() string { return Scaling(q).spec("int8") }

// Format is bytes that are levels themselves, with 8-bit activations.
func (q Int8) Format() framework.Format {
	return framework.Format{Bits: 8, Group: q.Group, F16: !q.F32, ActBits: 8, Density: 7.994}
}

// Pack quantizes w f32 [M,K].
func (q Int8) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	return Scaling(q).pack(b, w, q.Format(),
		func(x graph.Value) graph.Value { return b.Scale(b.AMax(b.Abs(x), 2), 1.0/int8Top) },
		func(x, s graph.Value) graph.Value { return nearest(b, x, s, int8Top) })
}
