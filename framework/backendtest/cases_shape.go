package backendtest

import (
	"slices"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

func reshapeSamples() []sample {
	to := func(o operand, fd bool, dims ...int) sample {
		return sample{attr: graph.DimsAttr{Dims: dims}, in: []operand{o}, fd: fd}
	}
	return []sample{
		to(f32(normal, 6, 5), true, 30), to(f32(normal, 7), false, 1, 7, 1), to(f32(normal, 1), false),
		to(f32(normal, 8, 9), false, 3, 24), to(i32(below(9), 6), false, 2, 3), to(of(tensor.F16, normal, 4, 6), false, 24),
	}
}

func transposeSamples() []sample {
	perm := func(o operand, fd bool, p ...int) sample {
		return sample{attr: graph.DimsAttr{Dims: p}, in: []operand{o}, fd: fd}
	}
	out := []sample{
		perm(f32(normal, 3, 4), true, 1, 0), perm(f32(normal, 2, 3, 4), true, 2, 0, 1),
		perm(f32(normal, 2, 3, 5, 7), false, 0, 2, 1, 3), perm(f32(normal, 2, 3, 5, 7), false, 3, 1, 0, 2),
		perm(f32(normal, 2, 3, 5, 7), false, 0, 1, 3, 2), perm(f32(normal, 2, 1, 5), false, 0, 1, 2), perm(f32(normal, 7), false, 0),
		perm(i32(below(99), 3, 7), false, 1, 0), perm(of(tensor.F16, normal, 3, 7), false, 1, 0), perm(of(tensor.Bool, below(2), 9, 5), false, 1, 0),
		{attr: graph.DimsAttr{Dims: []int{1, 0}}, in: []operand{f32(normal, 129, 301)}, big: true},
	}
	for _, n := range tails {
		out = append(out, perm(f32(normal, 5, n), false, 1, 0), perm(f32(normal, 3, n, 8), false, 1, 0, 2))
	}
	return out
}

func broadcastSamples() []sample {
	to := func(fd bool, from, dims []int) sample {
		return sample{attr: graph.DimsAttr{Dims: dims}, in: []operand{f32(normal, from...)}, fd: fd}
	}
	out := []sample{to(true, []int{3, 1, 2}, []int{3, 4, 2}), to(false, []int{1, 1}, []int{9, 31}), to(false, []int{2, 1, 3, 1}, []int{2, 5, 3, 7})}
	for _, n := range tails {
		out = append(out, to(n == 3, []int{1, n}, []int{5, n}), to(n == 7, []int{5, 1}, []int{5, n}), to(false, []int{n}, []int{n}))
	}
	return out
}

func sliceSamples() []sample {
	cut := func(fd bool, axis, lo, hi int, dims ...int) sample {
		return sample{attr: graph.SliceAttr{Axis: axis, Lo: lo, Hi: hi}, in: []operand{f32(normal, dims...)}, fd: fd}
	}
	out := []sample{
		cut(true, 0, 1, 3, 4, 5), cut(true, 1, 2, 4, 3, 5), cut(false, 1, 0, 1, 2, 3, 7), cut(false, 2, 1, 2, 5, 9, 2),
		cut(false, 0, 0, 1, 1), cut(false, 1, 100, 129, 33, 129),
	}
	for _, n := range tails {
		out = append(out, cut(false, 1, n/2, n, 5, n), cut(false, 0, 0, (n+1)/2, n, 3))
	}
	return out
}

func padSamples() []sample {
	pad := func(fd bool, axis, before, after int, dims ...int) sample {
		return sample{attr: graph.PadAttr{Axis: axis, Before: before, After: after}, in: []operand{f32(normal, dims...)}, fd: fd}
	}
	out := []sample{pad(true, 0, 1, 2, 2, 3), pad(true, 1, 0, 3, 2, 3), pad(false, 1, 2, 0, 2, 3, 4), pad(false, 0, 0, 0, 5), pad(false, 2, 1, 1, 3, 5, 1)}
	for _, n := range tails {
		out = append(out, pad(false, 1, 3, 5, 4, n), pad(false, 0, 5, 3, n, 2))
	}
	return out
}

func concatSamples() []sample {
	join := func(axis int, shapes ...[]int) sample {
		s := sample{attr: graph.AxisAttr{Axis: axis}, fd: shapes[0][0] < 5}
		for _, d := range shapes {
			s.in = append(s.in, f32(normal, d...))
		}
		return s
	}
	out := []sample{
		join(0, []int{2, 3}, []int{1, 3}), join(1, []int{2, 3}, []int{2, 1}, []int{2, 2}), join(0, []int{7}), join(0, []int{9}, []int{1}, []int{31}, []int{8}),
		join(1, []int{2, 1, 5}, []int{2, 3, 5}), join(3, []int{2, 3, 2, 1}, []int{2, 3, 2, 1}), join(1, []int{33, 129}, []int{33, 7}),
	}
	for _, n := range tails {
		out = append(out, join(1, []int{5, n}, []int{5, 3}), join(0, []int{n, 5}, []int{3, 5}))
	}
	return out
}

func gatherSamples() []sample {
	pick := func(fd bool, table operand, ids ...int) sample {
		return sample{in: []operand{table, i32(below(table.t.Shape[0]), ids...)}, fd: fd}
	}
	out := []sample{
		pick(true, f32(normal, 5, 3), 4), pick(true, f32(normal, 4), 2, 3), pick(false, f32(normal, 5, 2, 3), 2, 3), pick(false, f32(normal, 1, 9), 7),
		pick(false, of(tensor.F16, normal, 9, 31), 5), pick(false, of(tensor.BF16, normal, 9, 7), 5), pick(false, of(tensor.F16, normal, 7), 9),
	}
	for _, n := range tails {
		out = append(out, pick(false, f32(normal, 33, n), 9))
	}
	big := pick(false, f32(normal, 300, 65), 700)
	big.big = true
	return append(out, big)
}

func scatterSamples() []sample {
	add := func(fd, big bool, rows int, ids []int, row ...int) sample {
		return sample{attr: graph.LenAttr{N: rows}, in: []operand{f32(normal, append(slices.Clone(ids), row...)...), i32(below(rows), ids...)}, fd: fd, big: big}
	}
	out := []sample{
		add(true, false, 5, []int{4}, 3), add(true, false, 3, []int{2, 3}), add(false, false, 9, []int{2, 3}, 2, 2),
		add(false, false, 1, []int{33}, 7), add(false, true, 97, []int{700}, 65),
	}
	for _, n := range tails {
		out = append(out, add(false, false, 7, []int{31}, n))
	}
	return out
}

func updateSamples() []sample {
	var out []sample
	for _, d := range []tensor.DType{tensor.F32, tensor.F16} {
		out = append(out,
			sample{attr: graph.AxisAttr{Axis: 1}, in: []operand{of(d, normal, 2, 9, 3, 4), f32(normal, 2, 1, 3, 4), i32(below(9), 2)}},
			sample{attr: graph.AxisAttr{Axis: 1}, in: []operand{of(d, normal, 3, 33, 7), f32(normal, 3, 8, 7), i32(below(25), 3)}},
			sample{attr: graph.AxisAttr{Axis: 2}, in: []operand{of(d, normal, 2, 3, 9, 5), f32(normal, 2, 3, 2, 5), i32(below(8), 2)}},
			sample{attr: graph.AxisAttr{Axis: 1}, in: []operand{of(d, normal, 1, 7), f32(normal, 1, 7), i32(below(1), 1)}},
			sample{attr: graph.AxisAttr{Axis: 2}, in: []operand{of(d, normal, 2, 5, 31), f32(normal, 2, 5, 3), i32(below(29), 2)}})
	}
	return out
}

func matmulSamples() []sample {
	var out []sample
	for _, tx := range []bool{false, true} {
		for _, ty := range []bool{false, true} {
			add := func(d tensor.DType, s sample, m, k, n int, batch ...int) {
				x, y := append(slices.Clone(batch), m, k), append(slices.Clone(batch), k, n)
				r := len(batch)
				if tx {
					x[r], x[r+1] = k, m
				}
				if ty {
					y[r], y[r+1] = n, k
				}
				s.attr, s.in = graph.MatMulAttr{TransX: tx, TransY: ty}, []operand{f32(normal, x...), of(d, normal, y...)}
				out = append(out, s)
			}
			for i, m := range tails {
				add(tensor.F32, sample{}, m, tails[(i+4)%9], tails[(i+7)%9])
				add(tensor.F32, sample{}, tails[(i+2)%9], m, 5)
				add(tensor.F16, sample{}, 3, m, tails[(i+5)%9])
			}
			add(tensor.F32, sample{fd: true}, 2, 3, 4)
			add(tensor.F32, sample{fd: true}, 2, 3, 2, 2)
			add(tensor.F32, sample{}, 9, 7, 17, 2, 3)
			add(tensor.F32, sample{}, 64, 64, 64)
			add(tensor.F32, sample{}, 13, 600, 19)
			add(tensor.F32, sample{big: true}, 197, 96, 130)
		}
	}
	return out
}

var (
	ternaryLevels = []int8{-1, 0, 1}
	binaryLevels  = []int8{-1, 1}
	oddLevels     = []int8{-127, -90, -67, -50, -36, -23, -11, 0, 10, 20, 31, 43, 56, 72, 91, 127}
)

// book pairs a code width with a code book; i8 codes have none.
type book struct {
	d      tensor.DType
	levels []int8
}

var books = []book{{tensor.U2, ternaryLevels}, {tensor.U1, binaryLevels}, {tensor.U4, oddLevels}, {tensor.U4, ternaryLevels}, {tensor.I8, nil}}

// codes draws codes that the book has.
func (b book) codes() filler {
	if b.d != tensor.I8 {
		return below(len(b.levels))
	}
	return func(k rng.Key, i int) float64 { return below(255)(k, i) - 127 }
}

// exact are the levels.
func (b book) exact() []float64 {
	var out []float64
	for _, l := range b.levels {
		out = append(out, float64(l))
	}
	if b.d == tensor.I8 {
		return []float64{-127, -126, -1, 0, 1, 64, 127}
	}
	return out
}

func encodeSamples() []sample {
	var out []sample
	for _, bk := range books {
		exact := bk.exact()
		attr := graph.CodeAttr{To: bk.d.String(), Levels: bk.levels}
		for _, n := range tails {
			out = append(out, sample{attr: attr, in: []operand{f32(listed(exact...), 5, n)}}, sample{attr: attr, in: []operand{f32(wide, 3, n)}})
		}
		out = append(out, sample{attr: attr, in: []operand{f32(listed(exact...), 7)}})
	}
	return out
}

func decodeSamples() []sample {
	var out []sample
	for _, bk := range books {
		for _, n := range tails {
			out = append(out, sample{attr: graph.CodeAttr{Levels: bk.levels}, in: []operand{of(bk.d, bk.codes(), 5, n)}})
		}
	}
	return out
}
