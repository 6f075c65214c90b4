package attention

import (
	"fmt"
	"testing"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func TestRopeTurnsByTheAngleOfThePosition(t *testing.T) {
	r := newRig(t)
	scaled := graph.RoPEAttr{Theta: 5e5, Factors: []float64{1, 1.5, 8}}
	plain := graph.RoPEAttr{Theta: 1e4}
	for _, c := range []struct {
		shape   []int
		attr    graph.RoPEAttr
		pos     []float64
		in, out tensor.DType
	}{
		{[]int{1, 1, 1, 2}, plain, []float64{3}, f32, f32},
		{[]int{2, 5, 2, 6}, scaled, []float64{0, 200}, f32, f32},
		{[]int{3, 1, 5, 34}, plain, []float64{1, 131072, 99999}, f32, f32},
		{[]int{2, 9, 6, 64}, plain, []float64{100000, 5}, f32, f32},
		{[]int{1, 7, 3, 128}, plain, []float64{1 << 30}, f32, f32},
		{[]int{2, 3, 4, 64}, plain, []float64{-4, 5}, b16, f32},
		{[]int{2, 3, 4, 10}, plain, []float64{100000, 5}, b16, b16},
	} {
		s := tensor.Shape(c.shape)
		x := random("x", c.in, s.Numel())
		pos, turns := r.put(tensor.I32, c.pos), r.alloc(tensor.F32, s[3])
		must(t, r.d.Context().Upload(turns.p, turnsOf(c.attr, s[3])))
		bound := 1e-12
		if c.out == b16 {
			bound = bf16Bound
		}
		for _, op := range []string{"rope", "rope.vjp"} {
			in, sign := []operand{{tensor.T(f32, s...), x}, {tensor.T(tensor.I32, s[0]), c.pos}}, float32(1)
			if op == "rope.vjp" {
				in, sign = append(in, in[0]), -1
			}
			a, out := r.put(c.in, x), r.alloc(c.out, len(x))
			narrow := widths(tensor.T(c.in, s...), tensor.T(c.out, s...))
			r.run(turn(s, a.p, pos.p, turns.p, out.p, sign, narrow))
			want := reference(t, op, c.attr, in...)[0]
			within(t, fmt.Sprintf("%s of %v at %v", op, s, c.pos), r.get(out), want, bound)
			if c.in == c.out {
				apart := r.get(out)
				r.run(turn(s, a.p, pos.p, turns.p, a.p, sign, narrow))
				same(t, op+" in place", r.get(a), apart)
			}
		}
	}
}
