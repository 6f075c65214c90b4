package linear

import (
	"fmt"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/framework/tensor"
)

// What other packages need whose kernels multiply a few rows by weights of codes
// with something else: few.cuh, and what describes a weight to it.

// FewRows is up to how many rows the functions of few.cuh take; OwnRows up to how
// many a kernel had better quantize itself.
const (
	FewRows = fewRows
	OwnRows = ownRows
)

// WithCodes is a source that includes codes.cuh.
func WithCodes(name, code string) driver.Source { return withCodes(name, code) }

// ByWidth makes a source for each width of codes, in bits, of code that includes
// few.cuh. Their names begin with name.
func ByWidth(name, code string) map[int]driver.Source {
	all := map[int]driver.Source{}
	for _, bits := range []int{1, 2, 4, 8} {
		src := withCodes(fmt.Sprintf("%s_%d.cu", name, bits), fmt.Sprintf("#define BITS %d\n#line 1\n%s", bits, code))
		src.Headers["few.cuh"] = fewHeader
		all[bits] = src
	}
	return all
}

// Weight is what stands for f32 [M,K], without its memory.
type Weight struct {
	M, K     int
	Group    int // columns that share a scale
	ScaleRow int // scales from a row to the next, 0 where all rows share one
	Bits     int
	Book     [4]uint32 // levels as kernels take them
}

// WeightOf describes the weight of some codes and scales.
func WeightOf(codes tensor.Type, scales tensor.Shape, levels []int8) Weight {
	w := weightOfTypes(codes, scales, levels)
	return Weight{w.m, w.k, w.group, w.scaleRow, w.bits, w.book}
}

// Few reports whether the functions of few.cuh take the weight.
func (w Weight) Few() bool { return w.K%32 == 0 && w.Group%32 == 0 }

// Padded is the length of a row of quantized activations.
func (w Weight) Padded() int { return weight{k: w.K}.padded() }

// Span is how many lanes share a group.
func (w Weight) Span() int { return span(w.Group / 32) }
