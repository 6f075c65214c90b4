package main

import (
	"fmt"
	"math/bits"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// normalBook has 16 unequally spaced levels: quantiles of a normal distribution,
// as those of NF4 (arXiv 2305.14314, appendix E), times 127.
var normalBook = []int{-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127}

// book quantizes to the nearest of any levels, for measurements: a group's
// largest magnitude is 127.
type book []int8

// newBook checks levels.
func newBook(levels []int) (book, error) {
	b := make(book, len(levels))
	for i, v := range levels {
		if v < -127 || v > 127 || i > 0 && v <= levels[i-1] {
			return nil, usagef("levels are from -127 to 127 and ascend", "--levels %d: level %d", levels, v)
		}
		b[i] = int8(v)
	}
	if len(b) < 2 || len(b) > 16 {
		return nil, usagef("give 2 to 16 levels", "--levels %d", levels)
	}
	return b, nil
}

// Spec says how many levels there are: no registry opens it.
func (b book) Spec() string { return fmt.Sprintf("%d levels:group=128,scale=f32", len(b)) }

// Format is codes of 1, 2 or 4 bits.
func (b book) Format() framework.Format {
	width := bits.Len(uint(len(b) - 1)) // that tells so many levels apart
	if width == 3 {
		width = 4
	}
	return framework.Format{Bits: width, Levels: b, Group: 128, ActBits: 8, Density: float64(width)}
}

// Pack quantizes w f32 [M,K].
func (b book) Pack(g *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	m, k := w.Dim(0), w.Dim(1)
	x := g.Reshape(w, m, k/128, 128)
	s := g.Scale(g.AMax(g.Abs(x), 2), 1.0/127)
	s = g.Max(s, g.Like(s, 1e-8))
	return g.Encode(g.Reshape(g.Div(x, s), m, k), b.Format().Code(), b.Format().Levels), g.Reshape(s, m, k/128)
}
