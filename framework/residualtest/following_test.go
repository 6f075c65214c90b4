package residualtest_test

import (
	"testing"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/residualtest"
)

// following carries two streams whose matrix follows the token: with a =
// sigmoid(w . s), a token's is [[a, 1-a], [1-a, a]]. Hooks break it.
type following struct {
	streams
	claims bool
	seen   func(b *graph.Builder, s graph.Value) graph.Value // what a is computed from, s when nil
	matrix func(b *graph.Builder, a graph.Value) graph.Value // [N,2,2] of a [N,1], the exchange when nil
	mixing func(b *graph.Builder, h graph.Value) graph.Value // what it says of h, h when nil
}

func (r following) Spec() string { return "following" }

func (r following) Read(b *graph.Builder, _ int, s graph.Value) graph.Value {
	return b.StreamRead(s, b.Concat(1, r.share(b, s), b.Scale(r.share(b, s), 2)))
}

func (r following) Write(b *graph.Builder, _ int, s, y graph.Value) graph.Value {
	return b.StreamWrite(s, y, r.h(b, s), b.Param("post", graph.ConstInit(1), 2))
}

func (r following) Mixing(b *graph.Builder, _ int, s graph.Value) graph.Value {
	h := r.h(b, s)
	if r.mixing != nil {
		return r.mixing(b, h)
	}
	return h
}

func (r following) DoublyStochastic() bool { return r.claims }

// share is a [N,1].
func (r following) share(b *graph.Builder, s graph.Value) graph.Value {
	if r.seen != nil {
		s = r.seen(b, s)
	}
	w := b.Param("w", graph.NormalInit(0.3), 2*s.Dim(2), 1)
	return b.Sigmoid(b.MatMul(b.Reshape(s, s.Dim(0), 2*s.Dim(2)), w, false, false))
}

func (r following) h(b *graph.Builder, s graph.Value) graph.Value {
	a := r.share(b, s)
	if r.matrix != nil {
		return r.matrix(b, a)
	}
	return two(b, a, less(b, a), less(b, a), a)
}

// less is 1 - a.
func less(b *graph.Builder, a graph.Value) graph.Value { return b.Sub(b.Like(a, 1), a) }

// two is a matrix of 2 by 2 elements [N,1] for each token.
func two(b *graph.Builder, elements ...graph.Value) graph.Value {
	return b.Reshape(b.Concat(1, elements...), elements[0].Dim(0), 2, 2)
}

func TestAResidualThatFollowsTheTokenPasses(t *testing.T) {
	o := options(following{streams: streams{n: 2}, claims: true})
	o.Parameters = func(C int) int { return 2*C + 2 }
	residualtest.Run(t, o)
}

func TestFlawsOfWhatFollowsTheTokenAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		rule string
		r    following
		bend func(o *residualtest.Options)
	}{
		"says the matrix of another token": {"mixing", following{mixing: func(b *graph.Builder, h graph.Value) graph.Value {
			if h.Dim(0) == 1 {
				return h
			}
			return b.Concat(0, b.Slice(h, 0, 1, h.Dim(0)), b.Slice(h, 0, 0, 1))
		}}, nil},
		"says the mean of all tokens": {"mixing", following{mixing: func(b *graph.Builder, h graph.Value) graph.Value {
			return b.Reshape(b.Mean(h, 0), 2, 2)
		}}, nil},
		"says the transpose": {"mixing", following{
			matrix: func(b *graph.Builder, a graph.Value) graph.Value { return two(b, a, less(b, a), a, less(b, a)) },
			mixing: func(b *graph.Builder, h graph.Value) graph.Value { return b.Transpose(h, 0, 2, 1) },
		}, nil},
		"says a matrix for each stream": {"mixing", following{mixing: func(b *graph.Builder, h graph.Value) graph.Value {
			return b.Transpose(h, 1, 0, 2)
		}}, nil},
		"rows alone sum to 1": {"doubly stochastic", following{
			claims: true, matrix: func(b *graph.Builder, a graph.Value) graph.Value { return two(b, a, less(b, a), a, less(b, a)) },
		}, nil},
		"negative for some tokens": {"doubly stochastic", following{claims: true, matrix: func(b *graph.Builder, a graph.Value) graph.Value {
			a = b.Sub(b.Scale(a, 1.2), b.Like(a, 0.1))
			return two(b, a, less(b, a), less(b, a), a)
		}}, nil},
		"coefficients without gradient": {"gradient", following{seen: func(b *graph.Builder, s graph.Value) graph.Value { return b.StopGrad(s) }}, nil},
		"no gradient where streams differ": {"gradient", following{seen: func(b *graph.Builder, s graph.Value) graph.Value {
			m := b.Mean(s, 1)
			return b.Add(b.StopGrad(b.Sub(s, m)), m)
		}}, nil},
		"follows all tokens": {"tokens", following{seen: func(b *graph.Builder, s graph.Value) graph.Value {
			return b.Add(s, b.Mean(s, 0))
		}}, nil},
		"another number of parameters": {"parameters", following{}, func(o *residualtest.Options) {
			o.Parameters = func(C int) int { return 2*C + 3 }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c.r.streams.n = 2
			found(t, c.rule, c.r, c.bend)
		})
	}
}
