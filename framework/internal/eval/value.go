package eval

import (
	"math"

	"github.com/ternlm/tern/framework/tensor"
)

// value holds any tensor as one float64 an element: codes, ids and bools are
// small integers, which float64 carries exactly.
type value struct {
	t tensor.Type
	f []float64
}

func newValue(t tensor.Type) value { return value{t, make([]float64, t.Shape.Numel())} }

// fromTensor reads t as a value of graph type typ.
func fromTensor(t *tensor.Tensor, typ tensor.Type) value {
	v := newValue(typ)
	switch d := t.DType; {
	case d == tensor.F32 || d == tensor.F64 || d == tensor.F16 || d == tensor.BF16:
		copy(v.f, t.Floats())
	case d == tensor.I32:
		for i, x := range t.I32() {
			v.f[i] = float64(x)
		}
	case d == tensor.I8:
		for i, x := range t.I8() {
			v.f[i] = float64(x)
		}
	case d == tensor.Bool:
		for i := range v.f {
			v.f[i] = float64(t.Data[i])
		}
	case d.Codes():
		block, bits, stride, cols := codeLayout(t.Type)
		for i := range v.f {
			r, c := i/cols, i%cols
			v.f[i] = float64(t.Data[r*stride+c/block] >> (c % block * bits) & byte(1<<bits-1))
		}
	}
	return v
}

// codeLayout gives the codes a byte, their bits, the bytes a row and the
// columns of a packed type.
func codeLayout(t tensor.Type) (block, bits, stride, cols int) {
	block = t.DType.Block()
	cols = 1
	if len(t.Shape) > 0 {
		cols = t.Shape[len(t.Shape)-1]
	}
	return block, 8 / block, (cols + block - 1) / block, cols
}

// toTensor writes v as a tensor of type t, which differs from v's in f64 for
// f32 at most.
func (v value) toTensor(t tensor.Type) *tensor.Tensor {
	out := tensor.New(t)
	switch d := t.DType; {
	case d == tensor.F64:
		copy(out.F64(), v.f)
	case d == tensor.F32:
		for i, x := range v.f {
			out.F32()[i] = float32(x)
		}
	case d == tensor.F16:
		for i, x := range v.f {
			out.U16()[i] = tensor.F32ToF16(float32(x))
		}
	case d == tensor.BF16:
		for i, x := range v.f {
			out.U16()[i] = tensor.F32ToBF16(float32(x))
		}
	case d == tensor.I32:
		for i, x := range v.f {
			out.I32()[i] = int32(x)
		}
	case d == tensor.I8:
		for i, x := range v.f {
			out.I8()[i] = int8(x)
		}
	case d == tensor.Bool:
		for i, x := range v.f {
			out.Data[i] = byte(x)
		}
	case d.Codes():
		block, bits, stride, cols := codeLayout(t)
		for i, x := range v.f {
			r, c := i/cols, i%cols
			out.Data[r*stride+c/block] |= byte(x) << (c % block * bits)
		}
	}
	return out
}

// settle rounds v to what its element type can hold. F32 is left in float64
// unless single is true.
func (v value) settle(single bool) value {
	switch v.t.DType {
	case tensor.F32:
		if single {
			for i, x := range v.f {
				v.f[i] = float64(float32(x))
			}
		}
	case tensor.F16:
		for i, x := range v.f {
			v.f[i] = float64(tensor.F16ToF32(tensor.F32ToF16(float32(x))))
		}
	case tensor.BF16:
		for i, x := range v.f {
			v.f[i] = float64(tensor.BF16ToF32(tensor.F32ToBF16(float32(x))))
		}
	}
	return v
}

// strides gives the distance of neighbors along each axis of s.
func strides(s tensor.Shape) []int {
	st, n := make([]int, len(s)), 1
	for i := len(s) - 1; i >= 0; i-- {
		st[i] = n
		n *= s[i]
	}
	return st
}

// each calls fn with every coordinate of s in order; the slice is reused.
func each(s tensor.Shape, fn func(i int, at []int)) {
	at := make([]int, len(s))
	for i := range s.Numel() {
		fn(i, at)
		for d := len(s) - 1; d >= 0; d-- {
			if at[d]++; at[d] < s[d] {
				break
			}
			at[d] = 0
		}
	}
}

// offset is the index of coordinate at in shape s, axes of length 1 repeated.
func offset(s tensor.Shape, st, at []int) int {
	k := 0
	for d := range s {
		if s[d] != 1 {
			k += at[d] * st[d]
		}
	}
	return k
}

// bool01 is 1 for true.
func bool01(c bool) float64 {
	if c {
		return 1
	}
	return 0
}

// nearest is the index of the level closest to x, the first of equals.
func nearest(x float64, levels []int8) int {
	best, dist := 0, math.Inf(1)
	for i, l := range levels {
		if d := math.Abs(x - float64(l)); d < dist {
			best, dist = i, d
		}
	}
	return best
}
