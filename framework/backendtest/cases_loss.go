package backendtest

import (
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

// targets is in [0,v), or -1, which is ignored, every fourth time.
func targets(v int) filler {
	return func(k rng.Key, i int) float64 {
		if i%4 == 3 {
			return -1
		}
		return below(v)(k, i)
	}
}

// headShapes are n rows by a head [v,k]: few rows, many that a backend may cut
// into blocks with a rest, and vocabularies around the vector widths.
var headShapes = []struct{ n, k, v int }{
	{1, 4, 9}, {3, 8, 1}, {5, 33, 31}, {33, 64, 16}, {65, 31, 33}, {70, 64, 129}, {97, 128, 8}, {130, 12, 57},
}

// headSamples are those of a head of floats with its loss.
func headSamples() []sample {
	var out []sample
	add := func(s sample, d tensor.DType, n, k, v int) {
		s.in = []operand{f32(normal, n, k), of(d, small, v, k), i32(targets(v), n)}
		out = append(out, s)
	}
	add(sample{fd: true}, tensor.F32, 5, 3, 4)
	add(sample{fd: true}, tensor.F16, 2, 4, 3)
	for _, s := range headShapes {
		add(sample{}, tensor.F32, s.n, s.k, s.v)
		add(sample{}, tensor.F16, s.n, s.k, s.v)
	}
	add(sample{big: true}, tensor.F32, 300, 64, 257)
	return out
}

// quantizedHeadSamples are those of bitlinearcrossentropy, or, without the
// latent weight, of codebookcrossentropy.
func quantizedHeadSamples(latent bool) []sample {
	var out []sample
	add := func(book, act int, s sample, n, k, v, rows, groups int) {
		bk := books[book]
		s.attr = graph.LinearAttr{Levels: bk.levels, ActBits: act}
		s.in = []operand{
			f32(sparse(k), n, k), of(bk.d, bk.codes(), v, k), f32(small, rows, groups), i32(targets(v), n),
		}
		if latent {
			s.in = append([]operand{s.in[0], f32(normal, v, k)}, s.in[1:]...)
		}
		out = append(out, s)
	}
	for book := range books {
		add(book, 0, sample{fd: book == 0 && !latent}, 5, 4, 3, 3, 2)
		add(book, 8, sample{}, 5, 33, 9, 9, 1)
	}
	for _, s := range headShapes {
		add(0, 8, sample{}, s.n, s.k, s.v, s.v, 1)
	}
	for _, act := range []int{0, 8} {
		add(0, act, sample{}, 67, 96, 40, 40, 3)
		add(0, act, sample{}, 67, 64, 41, 1, 1)
	}
	add(0, 8, sample{big: true}, 300, 256, 130, 130, 2)
	return out
}
