package residual

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// streamsOption reads the option streams, which is one of the choices; the
// first of them is the default.
func streamsOption(o framework.Options, choices ...int) (int, error) {
	n, err := o.Int("streams", choices[0])
	if err == nil && !slices.Contains(choices, n) {
		words := make([]string, len(choices))
		for i, c := range choices {
			words[i] = strconv.Itoa(c)
		}
		err = errors.WithHint(errors.Wrapf(framework.ErrOption, "streams=%d", n), "streams is one of "+strings.Join(words, ", "))
	}
	return n, err
}

// expand copies x [N,C] to n streams [N,n,C].
func expand(b *graph.Builder, x graph.Value, n int) graph.Value {
	x = b.Reshape(x, x.Dim(0), 1, x.Dim(1))
	all := make([]graph.Value, n)
	for i := range all {
		all[i] = x
	}
	return b.Concat(1, all...)
}

// collapse is the mean of the streams s [N,n,C]: [N,C]. The papers add them up:
// a factor n, which the norm before the head removes, and without which what
// was expanded collapses to itself.
func collapse(b *graph.Builder, s graph.Value) graph.Value {
	return b.Reshape(b.Mean(s, 1), s.Dim(0), s.Dim(2))
}

// home gives each stream the value rest, and the home stream of sub-layer l the
// value at. Homes go round the streams in turn: were all streams treated alike,
// they would stay equal for ever.
func home(n, l int, at, rest float64) []float64 {
	v := slices.Repeat([]float64{rest}, n)
	v[l%n] = at
	return v
}

// identity is the n by n identity matrix, row by row.
func identity(n int) []float64 {
	v := make([]float64, n*n)
	for i := range n {
		v[i*n+i] = 1
	}
	return v
}
