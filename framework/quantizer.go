package framework

import (
	"fmt"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Special values of Format.Group.
const (
	GroupRow    = -1 // one scale a row
	GroupTensor = -2 // one scale for the whole weight
)

// Format is how a quantized weight is stored: codes that index a code book,
// and scales by group of consecutive weights of a row.
type Format struct {
	Bits    int     // of a code: 1, 2, 4 or 8; 0 means weights stay f32
	Levels  []int8  // the code book, at most 2^Bits levels; none for 8 bits, whose codes are -127 to 127
	Group   int     // weights a scale, or GroupRow or GroupTensor
	F16     bool    // every scale is an f16 value
	ActBits int     // bits of the activations it multiplies: 8, or 0 for f32
	Density float64 // informative: bits a weight, scales excluded, at best
}

// Quantized reports whether weights are stored as codes at all.
func (f Format) Quantized() bool { return f.Bits > 0 }

// Code returns the element encoding of the codes.
func (f Format) Code() tensor.DType {
	switch f.Bits {
	case 1:
		return tensor.U1
	case 2:
		return tensor.U2
	case 4:
		return tensor.U4
	case 8:
		return tensor.I8
	}
	return tensor.Invalid
}

// Linear returns the attribute of the ops that multiply by such weights.
func (f Format) Linear() graph.LinearAttr {
	return graph.LinearAttr{Levels: f.Levels, ActBits: f.ActBits}
}

// Scales returns the dimensions of the scales of a weight of m rows and k
// columns: [m, k/Group], [m, 1] or [1, 1].
func (f Format) Scales(m, k int) (rows, cols int, err error) {
	switch {
	case f.Group == GroupRow:
		return m, 1, nil
	case f.Group == GroupTensor:
		return 1, 1, nil
	case f.Group <= 0 || k%f.Group != 0:
		return 0, 0, fmt.Errorf("%d columns are not a multiple of the group of %d", k, f.Group)
	}
	return m, k / f.Group, nil
}

// Quantizer builds the graph that turns a weight into codes and scales. What a
// model computes with, in training and from a file, is their dequantisation;
// the gradient goes straight through to the weight.
type Quantizer interface {
	// Spec names the quantizer and its options, such as "ternary:group=128".
	// Opening it again gives the same quantizer.
	Spec() string
	Format() Format
	// Pack maps w f32 [M,K] to codes [M,K] of Format().Code() and scales f32
	// of Format().Scales(M,K). It is not called when the format is not
	// quantized.
	Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value)
}

// Surrogate is an optional interface of a Quantizer that lets the gradient
// reach the weight in another way than straight through.
//
// A layer computes with codes and scales, forward and in its operands'
// gradients; the cotangent of the dequantized weight then goes to
// Surrogate(w), as if the layer had multiplied by that, and from there on by
// its derivative. The surrogate w is straight through; w clamped to the range
// of the levels drops the gradient of weights beyond it; one that multiplies
// by a parameter, declared on b under the weight's scope, trains that parameter
// (LSQ, arXiv 1902.08153). Pack may read the same parameters by declaring them
// again.
type Surrogate interface {
	// Surrogate maps w f32 [M,K] to a value of the same type. Its numbers do not
	// matter where it is not differentiated: a trainer never looks at them.
	Surrogate(b *graph.Builder, w graph.Value) graph.Value
}
