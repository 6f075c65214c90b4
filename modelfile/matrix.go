package modelfile

import (
	"slices"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// matrix is a weight [M,K] of two dimensions: codes of a book with scales and,
// perhaps, minima; or floats, f32 or f16.
type matrix struct {
	ggml.Codes
	floats *tensor.Tensor
}

// ternaryLevels are what the codes of ternary weights stand for.
var ternaryLevels = []int8{-1, 0, 1}

// ternary reports whether the weights are -1, 0 and 1 times scales.
func (x matrix) ternary() bool {
	return x.floats == nil && x.Mins == nil && x.Codes.Codes.DType == tensor.U2 && slices.Equal(x.Levels, ternaryLevels)
}

// shape is [M,K].
func (x matrix) shape() tensor.Shape {
	if x.floats != nil {
		return x.floats.Shape
	}
	return x.Codes.Codes.Shape
}

// f32 is the weight as f32.
func (x matrix) f32() *tensor.Tensor {
	switch {
	case x.floats == nil:
		out := tensor.New(tensor.Type{DType: tensor.F32, Shape: x.shape()})
		x.dequantize(out.F32())
		return out
	case x.floats.DType == tensor.F16:
		return toF32(x.floats)
	}
	return x.floats
}

// dequantize sets out [M,K] to level times scale, less the minimum.
func (x matrix) dequantize(out []float32) {
	codes := x.Codes.Codes
	m, k := codes.Shape[0], codes.Shape[1]
	s, cols := x.Scales.F32(), x.Scales.Shape[1]
	bits := 8 / codes.DType.Block()
	rowBytes := len(codes.Data) / m
	for r := range m {
		row := codes.Data[r*rowBytes:]
		for c := range k {
			var level int8
			if bits == 8 {
				level = int8(row[c])
			} else if code := int(row[c*bits/8]>>(c*bits%8)) & (1<<bits - 1); code < len(x.Levels) {
				level = x.Levels[code]
			}
			at := c * cols / k
			if x.Scales.Shape[0] == m {
				at += r * cols
			}
			v := float32(level) * s[at]
			if x.Mins != nil {
				v -= x.Mins.F32()[at]
			}
			out[r*k+c] = v
		}
	}
}

// mapScales returns x with f of each scale, or of each weight where it is
// floats. Scales of minima are not asked for.
func (x matrix) mapScales(f func(float32) float32) matrix {
	src := x.Scales
	if x.floats != nil {
		src = x.f32()
	}
	out := tensor.New(src.Type)
	for i, v := range src.F32() {
		out.F32()[i] = f(v)
	}
	if x.floats != nil {
		x.floats = out
	} else {
		x.Scales = out
	}
	return x
}

// reorder returns x with its rows in the order that f gives a tensor's.
func (x matrix) reorder(f func(*tensor.Tensor) *tensor.Tensor) matrix {
	if x.floats != nil {
		return matrix{floats: f(x.floats)}
	}
	x.Codes.Codes, x.Scales = f(x.Codes.Codes), f(x.Scales)
	if x.Mins != nil {
		x.Mins = f(x.Mins)
	}
	return x
}

// matrix returns the weight whose codes, or floats, are the state n.
func (w *Weights) matrix(n *graph.Node) (x matrix, err error) {
	base, kind := cutKind(n.Name())
	t, err := w.Tensor(n.Name())
	if err != nil || kind != "codes" {
		return matrix{floats: t}, err
	}
	x.Codes.Codes, x.Levels = t, w.format(base).Levels
	if s, ok := w.Model.Stored(base); ok && s.Mins {
		if x.Mins, err = w.Tensor(base + ".mins"); err != nil {
			return x, err
		}
	}
	x.Scales, err = w.Tensor(base + ".scales")
	return x, err
}
