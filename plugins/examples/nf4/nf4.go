package main

import (
	"fmt"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// top is the level of the largest magnitude of a group.
const top = 127

// levels are the 16 levels in steps of 1/127 of the largest magnitude.
var levels = normalFloat()

// normalFloat is NormalFloat4 (QLoRA, arXiv 2305.14314, appendix E): quantiles of N(0,1), eight of the negative half and
// nine of the positive half with the zero in common, divided by the largest and rounded to multiples of 1/127.
func normalFloat() []int8 {
	const edge = 0.9677083 // the mean of 1-1/32 and 1-1/30: where the outermost quantiles lie
	quantile := func(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }
	half := func(n int) []float64 { // n quantiles from 0, which is not among them, to the edge
		var q []float64
		for i := 1; i <= n; i++ {
			q = append(q, quantile(0.5+(edge-0.5)*float64(i)/float64(n))/quantile(edge))
		}
		return q
	}
	negative, positive := half(7), half(8)
	var l []int8
	for i := range negative {
		l = append(l, int8(-math.Round(top*negative[len(negative)-1-i])))
	}
	l = append(l, 0)
	for _, v := range positive {
		l = append(l, int8(math.Round(top*v)))
	}
	return l
}

// NF4 quantizes to 16 levels that are equally likely under a normal distribution, by the largest magnitude of a group:
//
//	scale = max(max|w|/127, floor)
//	code  = index of the level nearest to w/scale; the lower one where two are equally near
//
// The scale is a constant of the backward pass. QLoRA quantizes the scales once more; this does not.
type NF4 struct {
	Group int  // consecutive weights of a row that share a scale
	F32   bool // keep scales in f32; else they are rounded to f16
}

// Open reads the options group (a number of weights, 64) and scale (f16 or f32).
func Open(o framework.Options) (framework.Quantizer, error) {
	group, err := o.Int("group", 64)
	if err != nil {
		return nil, err
	}
	if group < 4 || group > 1<<20 {
		return nil, errors.WithHint(errors.Wrapf(framework.ErrOption, "group=%d", group), "group is a number of weights from 4 to 1048576")
	}
	scale, err := o.Choice("scale", "f16", "f32")
	return NF4{Group: group, F32: scale == "f32"}, err
}

// Spec returns the full spec, such as "nf4:group=64,scale=f16".
func (q NF4) Spec() string {
	scale := "f16"
	if q.F32 {
		scale = "f32"
	}
	return fmt.Sprintf("nf4:group=%d,scale=%s", q.Group, scale)
}

// Format is four-bit codes over 16 int8 levels with 8-bit activations.
func (q NF4) Format() framework.Format {
	return framework.Format{Bits: 4, Levels: levels, Group: q.Group, F16: !q.F32, ActBits: 8, Density: 4}
}

// Pack quantizes w f32 [M,K] to codes [M,K] and scales f32 [M,K/Group].
func (q NF4) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	m, k := w.Dim(0), w.Dim(1)
	rows, cols, err := q.Format().Scales(m, k)
	if err != nil {
		graph.Fail("nf4: weight %v: %v", w.Type(), err)
	}
	x := b.Reshape(w, rows, cols, q.Group)
	s := b.Max(b.Scale(b.AMax(b.Abs(x), 2), 1.0/top), b.Like(x, q.floor()))
	if !q.F32 {
		s = b.Cast(b.Cast(s, tensor.F16), tensor.F32)
	}
	return b.Encode(b.Reshape(b.Div(x, s), m, k), q.Format().Code(), levels), b.Reshape(s, rows, cols) // of the nearest levels
}

// floor keeps the scale of a group of zeros positive: 1e-8, or the smallest f16.
func (q NF4) floor() float64 {
	if q.F32 {
		return 1e-8
	}
	return 0x1p-24
}
