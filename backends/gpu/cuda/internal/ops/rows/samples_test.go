package rows_test

import (
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// samples covers tails, rows that a warp has and that a block has, rows that fit
// in its registers and not, one part and several, and every form of operands.
// Values of 4096 elements or more are bf16 where a test asks for it.
func samples() []sample {
	var all []sample
	for _, group := range [][]sample{norms(), elementwise(), losses(), indexing(), streams()} {
		all = append(all, group...)
	}
	return all
}

func norms() []sample {
	var out []sample
	attr := graph.NormAttr{Eps: 1e-5}
	for _, dims := range [][]int{
		{1}, {7}, {3, 4, 5}, {33, 128}, {5, 1028}, {2, 8200}, {2, 2051}, {17, 257}, {1100, 4},
	} {
		gain := f32(dims[len(dims)-1])
		out = append(out,
			sample{"rmsnorm", attr, []operand{f32(dims...), gain}},
			sample{"rmsnorm.vjp", attr, []operand{f32(dims...), gain, f32(dims...)}},
			sample{"int8", nil, []operand{f32(dims...)}})
	}
	return append(out, sample{"int8.vjp", nil, []operand{f32(5, 3), f32(5, 3)}}, sample{"int8.vjp", nil, []operand{f32(33, 129), f32(33, 129)}})
}

func elementwise() []sample {
	var out []sample
	for _, dims := range [][]int{{1}, {3}, {4}, {7}, {3, 5}, {67, 65}, {32, 128}} {
		out = append(out,
			sample{"swiglu", nil, []operand{of(tensor.F32, wide, dims...), f32(dims...)}},
			sample{"swiglu.vjp", nil, []operand{of(tensor.F32, wide, dims...), f32(dims...), f32(dims...)}})
	}
	scalar := func(v float64) operand { return of(tensor.F32, constant(v)) }
	for _, dims := range [][]int{{1}, {7}, {37, 31}} {
		out = append(out, sample{"adamw", graph.AdamAttr{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Decay: 0.1}, []operand{
			f32(dims...), f32(dims...), f32(dims...), of(tensor.F32, positive, dims...), scalar(1e-2), scalar(0.19), scalar(0.0199),
		}})
	}
	return out
}

func losses() []sample {
	var out []sample
	for _, s := range [][2]int{{1, 1}, {2, 2}, {5, 3}, {9, 7}, {9, 33}, {7, 1023}, {9, 1029}, {4, 1024}, {3, 9001}, {33, 130}} {
		n, v := s[0], s[1]
		logits, targets := of(tensor.F32, wide, n, v), i32(-1, v, n)
		out = append(out,
			sample{"crossentropy", nil, []operand{logits, targets}},
			sample{"crossentropy.vjp", nil, []operand{logits, targets, f32(n)}})
	}
	return out
}

func indexing() []sample {
	var out []sample
	for _, d := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		for _, width := range []int{1, 3, 4, 31, 128, 1030, 1028} {
			out = append(out, sample{"gather", nil, []operand{of(d, normal, 9, width), i32(0, 9, 5, 7)}})
		}
		out = append(out, sample{"gather", nil, []operand{of(d, normal, 9), i32(0, 9, 3)}}, sample{"gather", nil, []operand{of(d, normal, 4, 2, 6), i32(0, 4, 1)}})
	}
	add := func(limit, count int, dims ...int) {
		out = append(out, sample{"scatteradd", graph.LenAttr{N: limit}, []operand{f32(append([]int{count}, dims...)...), i32(0, limit, count)}})
	}
	add(5, 1, 3)
	add(1, 33, 7) // longer than a warp by one
	add(1, 32, 8)
	add(97, 700, 65)
	add(7, 500, 12)
	add(3, 100, 1028)
	add(3, 9000, 4) // longer than a warp looks through at a time
	add(40, 130)
	for _, d := range []tensor.DType{tensor.F32, tensor.F16} {
		update := func(axis, last int, dst, src []int) {
			out = append(out, sample{"updateat", graph.AxisAttr{Axis: axis}, []operand{of(d, normal, dst...), f32(src...), i32(0, last+1, dst[0])}})
		}
		update(1, 8, []int{2, 9, 3, 4}, []int{2, 1, 3, 4})
		update(1, 25, []int{3, 33, 7}, []int{3, 8, 7})
		update(2, 7, []int{2, 3, 9, 5}, []int{2, 3, 2, 5})
		update(1, 0, []int{1, 7}, []int{1, 7})
		update(2, 28, []int{2, 5, 31}, []int{2, 5, 3})
		update(1, 9, []int{2, 50, 64}, []int{2, 41, 64})
	}
	return out
}

// each is coefficients that are the same for all rows, or each row's own.
func each(own bool, rows int, dims ...int) operand {
	if own {
		dims = append([]int{rows}, dims...)
	}
	return f32(dims...)
}

func streams() []sample {
	var out []sample
	for i, dims := range [][3]int{
		{1, 1, 4},
		{5, 1, 3},
		{5, 2, 4},
		{3, 3, 8},
		{70, 2, 36},
		{9, 4, 132},
		{3, 4, 7},
		{5, 8, 8},
		{3, 9, 17},
		{33, 2, 128},
		{17, 4, 256},
		{33, 3, 128},
		{9, 8, 456},
		{9, 2, 520}, // more than the chunks that a lane of a pullback has at a time
		{2100, 2, 4},
	} {
		n, s, c := dims[0], dims[1], dims[2]
		forms := [][2]bool{{false, false}, {true, true}}
		if n*s*c < 4096 {
			forms = append(forms, [2]bool{i%2 == 0, i%2 == 1})
		}
		for _, own := range forms {
			h, p := each(own[0], n, s, s), each(own[1], n, s)
			out = append(out,
				sample{"streamread", nil, []operand{f32(n, s, c), p}},
				sample{"streamread.vjp", nil, []operand{f32(n, s, c), p, f32(n, c)}},
				sample{"streamwrite", nil, []operand{f32(n, s, c), f32(n, c), h, p}},
				sample{"streamwrite.vjp", nil, []operand{f32(n, s, c), f32(n, c), h, p, f32(n, s, c)}})
		}
	}
	return out
}
