package main

import (
	"fmt"
	"math"
	"strconv"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// ternary are the levels.
var ternary = []int8{-1, 0, 1}

// LearnedScale quantizes to {-1, 0, +1} by a scale that is learned as in LSQ (Learned Step Size Quantization, arXiv
// 1902.08153):
//
//	scale s = max(g mean|w|, floor)     of a group, g a parameter
//	code    = round(clamp(w/s, -1, 1)), half to even
//
// LSQ has s itself for a parameter. The gain g on the mean magnitude is the same freedom; it starts at 1, where the codes
// are those of BitNet's absmean, and one learning rate suits every layer.
type LearnedScale struct {
	Group int  // consecutive weights of a row that share a scale, or framework.GroupRow
	F32   bool // keep scales in f32; else they are rounded to f16
}

// Open reads the options group (a number of weights or row; 128) and scale (f16 or f32).
func Open(o framework.Options) (framework.Quantizer, error) {
	q := LearnedScale{Group: framework.GroupRow}
	if g := o.String("group", "128"); g != "row" {
		n, err := strconv.Atoi(g)
		if err != nil || n < 4 || n > 1<<20 {
			return nil, errors.WithHint(errors.Wrapf(framework.ErrOption, "group=%s", g), "group is a number of weights from 4 to 1048576, or row")
		}
		q.Group = n
	}
	scale, err := o.Choice("scale", "f16", "f32")
	q.F32 = scale == "f32"
	return q, err
}

// Spec returns the full spec, such as "learned-scale:group=128,scale=f16".
func (q LearnedScale) Spec() string {
	group, scale := strconv.Itoa(q.Group), "f16"
	if q.Group == framework.GroupRow {
		group = "row"
	}
	if q.F32 {
		scale = "f32"
	}
	return fmt.Sprintf("learned-scale:group=%s,scale=%s", group, scale)
}

// Format is two-bit codes over the levels -1, 0, +1 with 8-bit activations.
func (q LearnedScale) Format() framework.Format {
	return framework.Format{Bits: 2, Levels: ternary, Group: q.Group, F16: !q.F32, ActBits: 8, Density: 1.585}
}

// Pack quantizes w f32 [M,K].
func (q LearnedScale) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	x, s := q.groups(b, w)
	t := b.Round(clamp(b, b.Div(x, s)))
	return b.Encode(b.Reshape(t, w.Shape()...), q.Format().Code(), ternary), b.Reshape(s, s.Dim(0), s.Dim(1))
}

// Surrogate is what the gradient of the quantized weight is taken of: t s with t = round(clamp(v)), v = w/s, where
// rounding passes the gradient on:
//
//	dy/dw = 1 where |v| < 1, else 0      dy/ds = t - v where |v| < 1, else t
//
// The second reaches g, times mean|w|, which itself is taken for constant.
func (q LearnedScale) Surrogate(b *graph.Builder, w graph.Value) graph.Value {
	x, s := q.groups(b, w)
	v := clamp(b, b.Div(x, s))
	return b.Reshape(b.Mul(b.Through(b.Round(v), v), s), w.Shape()...)
}

// groups gives the weights [rows,cols,n] and the scales [rows,cols,1] of their groups.
func (q LearnedScale) groups(b *graph.Builder, w graph.Value) (x, s graph.Value) {
	m, k := w.Dim(0), w.Dim(1)
	rows, cols, err := q.Format().Scales(m, k)
	if err != nil {
		graph.Fail("learned-scale: weight %v: %v", w.Type(), err)
	}
	n := k / cols
	x = b.Reshape(w, rows, cols, n)
	s = b.Mul(q.gain(b, rows, cols, n), b.StopGrad(b.Mean(b.Abs(x), 2)))
	s = b.Max(s, b.Like(s, q.floor()))
	if !q.F32 {
		s = b.Through(b.Cast(b.Cast(s, tensor.F16), tensor.F32), s)
	}
	return x, s
}

// gain is the parameter g [rows,cols,1] of the groups of n weights. As in the paper its gradient is divided by sqrt(n), so
// that what n weights say of it does not outweigh what each says of itself.
func (q LearnedScale) gain(b *graph.Builder, rows, cols, n int) graph.Value {
	g := b.Reshape(b.Param("gain", graph.ConstInit(1), rows, cols), rows, cols, 1)
	return b.Through(g, b.Scale(g, 1/math.Sqrt(float64(n))))
}

// floor keeps the scale of a group of zeros positive: 1e-8, or the smallest f16.
func (q LearnedScale) floor() float64 {
	if q.F32 {
		return 1e-8
	}
	return 0x1p-24
}

// clamp is v between -1 and 1.
func clamp(b *graph.Builder, v graph.Value) graph.Value {
	return b.Min(b.Max(v, b.Like(v, -1)), b.Like(v, 1))
}
