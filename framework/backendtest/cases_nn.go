package backendtest

import (
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func normSamples() []sample {
	var out []sample
	add := func(s sample, dims ...int) {
		s.attr, s.in = graph.NormAttr{Eps: 1e-6}, []operand{f32(normal, dims...), f32(normal, dims[len(dims)-1])}
		out = append(out, s)
	}
	for _, n := range tails {
		add(sample{fd: n == 3}, 5, n)
	}
	add(sample{}, 33)
	add(sample{fd: true}, 2, 2, 4)
	add(sample{big: true}, 150, 129)
	// A row of zeros must stay finite.
	return append(out, sample{attr: graph.NormAttr{Eps: 1e-6}, in: []operand{f32(sparse(9), 5, 9), f32(normal, 9)}})
}

func normLinearSamples() []sample {
	var out []sample
	add := func(s sample, N, C, K int) {
		s.attr, s.in = graph.NormAttr{Eps: 1e-6}, []operand{f32(normal, N, C), f32(normal, C), f32(normal, K, C)}
		out = append(out, s)
	}
	add(sample{fd: true}, 3, 4, 2)
	for _, C := range tails {
		add(sample{}, 5, C, 6)
	}
	for _, K := range []int{1, 7, 16, 17, 33} {
		add(sample{}, 1, 40, K)
		add(sample{}, 50, 33, K)
	}
	add(sample{big: true}, 150, 129, 6)
	add(sample{}, 50, 1025, 32)
	return append(out, sample{attr: graph.NormAttr{Eps: 1e-6}, in: []operand{f32(sparse(9), 5, 9), f32(normal, 9), f32(normal, 3, 9)}})
}

func swigluSamples() []sample {
	out := []sample{{in: []operand{f32(normal, 3, 5), f32(normal, 3, 5)}, fd: true}, {in: []operand{f32(wide, 37, 1025), f32(normal, 37, 1025)}, big: true}}
	for _, n := range tails {
		out = append(out, sample{in: []operand{f32(normal, n), f32(normal, n)}}, sample{in: []operand{f32(wide, 5, n), f32(normal, 5, n)}})
	}
	return out
}

func softmaxSamples() []sample {
	out := []sample{
		{in: []operand{f32(normal, 3, 4)}, fd: true},
		{in: []operand{f32(normal, 7)}, fd: true},
		{in: []operand{f32(normal, 2, 3, 7)}},
		{in: []operand{f32(listed(1000, -1000, 999, 1e-3), 2, 9)}},
		{in: []operand{f32(wide, 150, 129)}, big: true},
	}
	for _, n := range tails {
		out = append(out, sample{in: []operand{f32(wide, 5, n)}})
	}
	return out
}

func ropeSamples() []sample {
	var out []sample
	add := func(s sample, B, T, H, D int) {
		s.attr, s.in = graph.RoPEAttr{Theta: 1e4}, []operand{f32(normal, B, T, H, D), i32(below(200), B)}
		out = append(out, s)
	}
	add(sample{}, 1, 1, 1, 2)
	add(sample{fd: true}, 2, 2, 2, 4)
	add(sample{}, 1, 7, 2, 6)
	add(sample{}, 2, 3, 1, 10)
	add(sample{}, 3, 1, 4, 34)
	add(sample{}, 1, 9, 3, 128)
	add(sample{big: true}, 2, 33, 4, 64)
	scaled := graph.RoPEAttr{Theta: 5e5, Factors: []float64{1, 1.5, 8}}
	out = append(out, sample{attr: scaled, in: []operand{f32(normal, 2, 5, 2, 6), i32(below(200), 2)}, fd: true})
	return out
}

func attentionSamples() []sample {
	var out []sample
	add := func(s sample, B, T, S, H, Hkv, D int) {
		s.in = []operand{f32(normal, B, T, H, D), f32(normal, B, S, Hkv, D), f32(normal, B, S, Hkv, D), i32(below(S-T+1), B)}
		out = append(out, s)
	}
	add(sample{}, 1, 1, 1, 1, 1, 2)
	add(sample{fd: true}, 2, 2, 3, 2, 1, 2)
	add(sample{fd: true}, 1, 3, 3, 2, 2, 2)
	add(sample{}, 2, 3, 3, 2, 1, 8)
	add(sample{}, 1, 5, 9, 4, 2, 7)
	add(sample{}, 3, 7, 31, 3, 1, 12)
	add(sample{}, 2, 1, 33, 4, 4, 16)
	add(sample{}, 1, 9, 129, 4, 1, 32)
	add(sample{}, 1, 31, 31, 1, 1, 64)
	add(sample{}, 1, 8, 40, 2, 1, 80)
	add(sample{big: true}, 2, 65, 65, 4, 2, 32)
	stored := func(dims ...int) operand { return of(tensor.F16, normal, dims...) }
	for _, T := range []int{1, 3, 9} { // a cache of halves
		out = append(out, sample{in: []operand{f32(normal, 2, T, 4, 24), stored(2, 37, 2, 24), stored(2, 37, 2, 24), i32(below(38-T), 2)}})
	}
	return out
}

func lossSamples() []sample {
	target := func(v int) operand { return i32(below(v), 5) }
	out := []sample{
		{in: []operand{f32(normal, 3, 5), i32(below(5), 3)}, fd: true},
		{in: []operand{f32(normal, 4, 3), i32(listed(2, -1, 0, -1), 4)}, fd: true}, // a negative target is ignored
		{in: []operand{f32(listed(1000, -1000, 0, 5, 7), 5, 33), i32(below(33), 5)}},
		{in: []operand{f32(wide, 66, 1025), i32(below(1025), 66)}, big: true},
	}
	for _, n := range tails {
		out = append(out, sample{in: []operand{f32(wide, 5, n), target(n)}})
	}
	return out
}

func int8Samples() []sample {
	out := []sample{
		{in: []operand{f32(normal, 7)}},
		{in: []operand{f32(sparse(9), 6, 9)}},
		// Ties at exact quotients: the absmax is 127, so the scale is about 1.
		{in: []operand{f32(listed(127, -126, 3, 0, -127, 64), 2, 6)}},
		{in: []operand{f32(normal, 150, 129)}, big: true},
	}
	for _, n := range tails {
		out = append(out, sample{in: []operand{f32(normal, 5, n)}})
	}
	return out
}

// linearSamples are those of bitlinear, or, without the latent weight, of
// codebookmatmul.
func linearSamples(latent bool) []sample {
	var out []sample
	add := func(book, act int, s sample, n, m, k, rows, groups int) {
		bk := books[book]
		s.attr = graph.LinearAttr{Levels: bk.levels, ActBits: act}
		s.in = []operand{f32(sparse(k), n, k), of(bk.d, bk.codes(), m, k), f32(small, rows, groups)}
		if latent {
			s.in = []operand{s.in[0], f32(normal, m, k), s.in[1], s.in[2]}
		}
		out = append(out, s)
	}
	for _, act := range []int{0, 8} {
		for book := range books {
			fd := act == 0 && book == 0 && !latent
			add(book, act, sample{fd: fd}, 2, 3, 4, 3, 2)
			add(book, act, sample{fd: fd}, 2, 2, 3, 1, 1)
			add(book, act, sample{}, 1, 33, 128, 33, 1)
			add(book, act, sample{}, 3, 5, 256, 5, 2)
			add(book, act, sample{}, 9, 17, 96, 17, 3)
			add(book, act, sample{}, 4, 7, 33, 7, 1)
			add(book, act, sample{}, 5, 16, 127, 1, 1)
			add(book, act, sample{}, 2, 31, 9, 31, 3)
			add(book, act, sample{}, 33, 16, 384, 16, 3)
		}
		add(0, act, sample{big: true}, 65, 100, 256, 100, 2)
	}
	return out
}

// streamForms are how the mixing matrix and the coefficients of a stream op are
// given: one for all rows, or one for each.
var streamForms = [][2]bool{{false, false}, {true, true}, {true, false}, {false, true}}

// coefficients are an operand of so many dimensions, the same for all N rows or
// one for each.
func coefficients(each bool, N int, dims ...int) operand {
	if each {
		dims = append([]int{N}, dims...)
	}
	return f32(normal, dims...)
}

func streamReadSamples() []sample {
	var out []sample
	for _, each := range []bool{false, true} {
		add := func(s sample, N, S, C int) {
			s.in = []operand{f32(normal, N, S, C), coefficients(each, N, S)}
			out = append(out, s)
		}
		for _, S := range []int{1, 2, 3, 4, 8} {
			add(sample{fd: true}, 2, S, 3)
			for _, C := range tails {
				add(sample{}, 5, S, C)
			}
		}
		add(sample{}, 3, 9, 17)
		add(sample{}, 1, 4, 9)
		add(sample{}, 2, 2, 9) // as many rows as streams
		add(sample{big: true}, 150, 2, 129)
		add(sample{}, 65, 4, 33)
	}
	return out
}

func streamWriteSamples() []sample {
	var out []sample
	for f, form := range streamForms {
		add := func(s sample, N, S, C int) {
			s.in = []operand{f32(normal, N, S, C), f32(normal, N, C), coefficients(form[0], N, S, S), coefficients(form[1], N, S)}
			out = append(out, s)
		}
		for _, S := range []int{1, 2, 3, 4, 8} {
			add(sample{fd: S < 8}, 2, S, 2)
			for i, C := range tails {
				if f < 2 || i%3 == f-1 { // the mixed forms at some of the lengths
					add(sample{}, 5, S, C)
				}
			}
		}
		add(sample{}, 3, 9, 17)
		add(sample{}, 1, 4, 4) // streams of as many elements as the matrix
		add(sample{}, 9, 8, 8) // matrices of rows as large as their streams
		add(sample{}, 1, 1, 7) // streams of as many elements as the branch
		add(sample{}, 2, 2, 9) // as many rows as streams
		add(sample{big: true}, 150, 2, 129)
		add(sample{}, 65, 4, 33)
	}
	return out
}

func adamSamples() []sample {
	attr := graph.AdamAttr{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Decay: 0.1}
	var out []sample
	add := func(s sample, dims ...int) {
		s.attr = attr
		s.in = []operand{
			f32(normal, dims...), f32(normal, dims...), f32(normal, dims...), f32(positive, dims...),
			f32(listed(1e-2)), f32(listed(0.19)), f32(listed(0.0199)),
		}
		out = append(out, s)
	}
	for _, n := range tails {
		add(sample{}, n)
		add(sample{}, 5, n)
	}
	add(sample{big: true}, 41, 1025)
	return out
}

// copies gives f32 operands that die at the op, and whether o is one.
func copies(b *graph.Builder, x []graph.Value) []graph.Value {
	y := make([]graph.Value, len(x))
	for i, v := range x {
		y[i] = v
		if v.Type().DType == tensor.F32 {
			y[i] = b.Scale(v, 1)
		}
	}
	return y
}
