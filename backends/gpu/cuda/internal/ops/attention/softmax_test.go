package attention

import (
	"fmt"
	"math"
	"testing"

	"github.com/ternlm/tern/framework/tensor"
)

func TestSoftmaxAndItsPullbackEqualFloat64(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		shape   []int
		in, out tensor.DType
	}{
		{[]int{7}, f32, f32},
		{[]int{5, 1}, f32, f32},
		{[]int{2, 3, 33}, f32, f32},
		{[]int{9, 128}, f32, f32},
		{[]int{3, 1024}, b16, f32},
		{[]int{2, 1025}, f32, f32},
		{[]int{2, 2052}, f32, b16},
		{[]int{9, 12}, b16, b16},
	} {
		s := tensor.Shape(c.shape)
		x, g := random("x", c.in, s.Numel()), random("g", c.in, s.Numel())
		for i := range x {
			x[i] *= 8
		}
		bound := 1e-11
		if c.out == b16 {
			bound = bf16Bound
		}
		in, to := tensor.T(c.in, s...), tensor.T(c.out, s...)
		a, b, out := r.put(c.in, x), r.put(c.in, g), r.alloc(c.out, len(x))
		typ := tensor.T(f32, s...)
		r.run(softmaxRows(s, a.p, b.p, out.p, widths(in, in, to)))
		within(t, fmt.Sprint("pullback of ", s), r.get(out), reference(t, "softmax.vjp", nil, operand{typ, x}, operand{typ, g})[0], bound)
		r.run(softmaxRows(s, a.p, 0, out.p, widths(in, tensor.Type{}, to)))
		within(t, fmt.Sprint("softmax of ", s), r.get(out), reference(t, "softmax", nil, operand{typ, x})[0], bound)
		if c.in == c.out {
			apart := r.get(out)
			r.run(softmaxRows(s, a.p, 0, a.p, widths(in, tensor.Type{}, to)))
			same(t, fmt.Sprint("in place ", s), r.get(a), apart)
		}
	}
}

func TestARowOfSoftmaxWithoutASumIsNotANumber(t *testing.T) {
	r := newRig(t)
	inf, nan := math.Inf(1), math.NaN()
	for _, row := range [][]float64{{nan, 5, 6}, {8, nan, inf}, {1, 2, inf}, {-inf, -inf, -inf}} {
		x := append(append([]float64{1, -inf, 3}, row...), 1, 2, 3)
		a, out := r.put(f32, x), r.alloc(f32, len(x))
		r.run(softmaxRows(tensor.Shape{3, 3}, a.p, 0, out.p, 0))
		for i, v := range r.get(out) {
			if math.IsNaN(v) != (i/3 == 1) {
				t.Errorf("%v: element %d of row %d is %v", row, i%3, i/3, v)
			}
		}
	}
}
