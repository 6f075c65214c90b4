package quant

import (
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

func init() {
	framework.Quantizers.Register("binary", func(o framework.Options) (framework.Quantizer, error) {
		s, err := openScaling(o)
		return Binary(s), err
	})
}

// Binary quantizes to {-1, +1}, the sign, by the mean magnitude of a group,
// which is the scale of least squared error (XNOR-Net, arXiv 1603.05279):
//
//	scale = max(mean|w|, floor)
//	code  = -1 if w < 0, else +1
//
// The scale is a constant of the backward pass.
type Binary Scaling

// Spec returns the full spec, such as "binary:group=128,scale=f16".
func (q Binary) Spec() string { return Scaling(q).spec("binary") }

// Format is one-bit codes over the levels -1, +1 with 8-bit activations.
func (q Binary) Format() framework.Format {
	return framework.Format{Bits: 1, Levels: []int8{-1, 1}, Group: q.Group, F16: !q.F32, ActBits: 8, Density: 1}
}

// Pack quantizes w f32 [M,K].
func (q Binary) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	return Scaling(q).pack(b, w, q.Format(),
		func(x graph.Value) graph.Value { return b.Mean(b.Abs(x), 2) },
		func(x, _ graph.Value) graph.Value {
			return b.Where(b.Less(x, b.Like(x, 0)), b.Like(x, -1), b.Like(x, 1))
		})
}
