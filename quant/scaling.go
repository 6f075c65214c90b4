package quant

import (
	"fmt"
	"strconv"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Scaling says which weights share a scale, and how scales are rounded.
type Scaling struct {
	Group int  // consecutive weights of a row, or framework.GroupRow, GroupTensor
	F32   bool // keep scales in f32; else they are rounded to f16, as files hold them
}

// openScaling reads the options group (a number, row or tensor) and scale (f16 or f32).
func openScaling(o framework.Options) (Scaling, error) {
	s := Scaling{Group: 128}
	switch g := o.String("group", "128"); g {
	case "row":
		s.Group = framework.GroupRow
	case "tensor":
		s.Group = framework.GroupTensor
	default:
		n, err := strconv.Atoi(g)
		if err != nil || n < 1 {
			return s, errors.WithHint(errors.Wrapf(framework.ErrOption, "group=%s", g), "group is a number of weights, row or tensor")
		}
		s.Group = n
	}
	scale, err := o.Choice("scale", "f16", "f32")
	s.F32 = scale == "f32"
	return s, err
}

// spec is the full spec of the named quantizer, such as "ternary:group=128,scale=f16".
func (s Scaling) spec(name string) string {
	group, scale := strconv.Itoa(s.Group), "f16"
	switch s.Group {
	case framework.GroupRow:
		group = "row"
	case framework.GroupTensor:
		group = "tensor"
	}
	if s.F32 {
		scale = "f32"
	}
	return fmt.Sprintf("%s:group=%s,scale=%s", name, group, scale)
}

// pack quantizes w f32 [M,K]: scale gives the scales [rows,cols,1] of the groups x [rows,cols,n], and level the levels
// of x by them.
func (s Scaling) pack(b *graph.Builder, w graph.Value, f framework.Format, scale func(x graph.Value) graph.Value, level func(x, s graph.Value) graph.Value) (codes, scales graph.Value) {
	m, k := w.Dim(0), w.Dim(1)
	rows, cols, err := f.Scales(m, k)
	if err != nil {
		graph.Fail("quantizer of %d bits: weight %v: %v", f.Bits, w.Type(), err)
	}
	x := b.Reshape(w, rows, cols, m*k/(rows*cols))
	unit := b.Max(scale(x), b.Like(x, s.floor()))
	if f.F16 {
		unit = b.Cast(b.Cast(unit, tensor.F16), tensor.F32)
	}
	t := level(x, unit)
	return b.Encode(b.Reshape(t, m, k), f.Code(), f.Levels), b.Reshape(unit, rows, cols)
}

// floor keeps the scale of an all-zero group positive: 1e-8 as in the paper, or the smallest positive f16.
func (s Scaling) floor() float64 {
	if s.F32 {
		return 1e-8
	}
	return 0x1p-24
}

// nearest is x/s rounded half to even and clamped to [-top, top].
func nearest(b *graph.Builder, x, s graph.Value, top float64) graph.Value {
	return b.Min(b.Max(b.Round(b.Div(x, s)), b.Like(x, -top)), b.Like(x, top))
}
