package quant

import (
	"fmt"
	"strconv"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func init() {
	framework.Quantizers.Register("ternary", openTernary)
}

// Ternary quantizes to {-1, 0, +1} by the mean magnitude of a group (BitNet
// b1.58, arXiv 2402.17764, by group instead of by tensor):
//
//	scale = max(mean|w|, floor)
//	code  = clamp(round(w/scale), -1, 1), half to even
//
// The scale is a constant of the backward pass.
type Ternary struct {
	Group int  // consecutive weights of a row, or framework.GroupRow, GroupTensor
	F32   bool // keep scales in f32; else they are rounded to f16, as files hold them
}

func openTernary(o framework.Options) (framework.Quantizer, error) {
	q := Ternary{Group: 128}
	switch g := o.String("group", "128"); g {
	case "row":
		q.Group = framework.GroupRow
	case "tensor":
		q.Group = framework.GroupTensor
	default:
		n, err := strconv.Atoi(g)
		if err != nil || n < 1 {
			return nil, errors.WithHint(errors.Wrapf(framework.ErrOption, "group=%s", g), "group is a number of weights, row or tensor")
		}
		q.Group = n
	}
	scale, err := o.Choice("scale", "f16", "f32")
	q.F32 = scale == "f32"
	return q, err
}

// Spec returns the full spec, such as "ternary:group=128,scale=f16".
func (q Ternary) Spec() string {
	group, scale := strconv.Itoa(q.Group), "f16"
	switch q.Group {
	case framework.GroupRow:
		group = "row"
	case framework.GroupTensor:
		group = "tensor"
	}
	if q.F32 {
		scale = "f32"
	}
	return fmt.Sprintf("ternary:group=%s,scale=%s", group, scale)
}

// Format is two-bit codes over the levels -1, 0, +1 with 8-bit activations.
func (q Ternary) Format() framework.Format {
	return framework.Format{Bits: 2, Levels: []int8{-1, 0, 1}, Group: q.Group, F16: !q.F32, ActBits: 8, Density: 1.585}
}

// Pack quantizes w f32 [M,K].
func (q Ternary) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	f := q.Format()
	m, k := w.Dim(0), w.Dim(1)
	rows, cols, err := f.Scales(m, k)
	if err != nil {
		graph.Fail("ternary: weight %v: %v", w.Type(), err)
	}
	x := b.Reshape(w, rows, cols, m*k/(rows*cols))
	s := b.Max(b.Mean(b.Abs(x), 2), b.Like(x, q.floor()))
	if f.F16 {
		s = b.Cast(b.Cast(s, tensor.F16), tensor.F32)
	}
	t := b.Min(b.Max(b.Round(b.Div(x, s)), b.Like(x, -1)), b.Like(x, 1))
	return b.Encode(b.Reshape(t, m, k), f.Code(), f.Levels), b.Reshape(s, rows, cols)
}

// floor keeps the scale of an all-zero group positive: 1e-8 as in the paper,
// or the smallest positive f16.
func (q Ternary) floor() float64 {
	if q.F32 {
		return 1e-8
	}
	return 0x1p-24
}
