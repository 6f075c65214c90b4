package residual_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// formula is a residual as its paper has it, in plain loops: the coefficients
// of one token with streams s.
type formula func(v values, l int, s [][]float64) (pre, post []float64, h [][]float64)

// formulas are by spec. Parameters are read by the names that docs/residuals.md
// gives.
var formulas = map[string]formula{
	"mhclite:streams=2,mode=dynamic":         constrained(combination),
	"mhclite:streams=4,mode=dynamic":         constrained(combination),
	"mhc:streams=2":                          constrained(sinkhorn(20)),
	"mhc:streams=4":                          constrained(sinkhorn(20)),
	"mhc:streams=4,iterations=1":             constrained(sinkhorn(1)),
	"mhc:streams=2,iterations=3,mode=static": constrained(sinkhorn(3)),
	"kromhc:streams=2":                       constrained(kronecker),
	"kromhc:streams=4":                       constrained(kronecker),
	"kromhc:streams=8":                       constrained(kronecker),
	"kromhc:streams=8,mode=static":           constrained(kronecker),
	"ihc:streams=2":                          constrained(unmixed),
	"ihc:streams=4":                          constrained(unmixed),
	"shc:streams=2":                          hyper,
	"shc:streams=4":                          hyper,
	"hc:streams=2":                           hyper,
	"hc:streams=4":                           hyper,
}

func square(n int) [][]float64 {
	h := make([][]float64, n)
	for i := range h {
		h[i] = make([]float64, n)
	}
	return h
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func rmsNorm(x, gain []float64) []float64 {
	ms := 0.0
	for _, v := range x {
		ms += v * v / float64(len(x))
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v / math.Sqrt(ms+1e-6) * gain[i]
	}
	return y
}

func dot(x, y []float64) float64 {
	sum := 0.0
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}

// constrained is equations 7 and 8 of arXiv 2512.24880.
func constrained(matrix func(c []float64, n int) [][]float64) formula {
	return func(v values, l int, s [][]float64) (pre, post []float64, h [][]float64) {
		n := len(s)
		name := func(p string) []float64 { return v[subLayer(l)+".mhc."+p] }
		var x []float64
		for _, stream := range s {
			x = append(x, stream...)
		}
		row := 0
		group := func(p string, k int) []float64 {
			c := make([]float64, k)
			for i := range c {
				c[i] = name(p + "_bias")[i]
				if w := name("weight"); w != nil {
					c[i] += name(p + "_gate")[0] * dot(w[row*len(x):(row+1)*len(x)], rmsNorm(x, name("norm")))
				}
				row++
			}
			return c
		}
		pre, post = group("pre", n), group("post", n)
		for i := range n {
			pre[i], post[i] = sigmoid(pre[i]), 2*sigmoid(post[i])
		}
		return pre, post, matrix(group("res", len(name("res_bias"))), n)
	}
}

// combination adds up all permutations, found by counting in base n: those are
// in lexicographic order (arXiv 2601.05732).
func combination(c []float64, n int) [][]float64 {
	sum, h := 0.0, square(n)
	for _, v := range c {
		sum += math.Exp(v)
	}
	k := 0
	for code := range int(math.Pow(float64(n), float64(n))) {
		used, to := map[int]bool{}, make([]int, n)
		for i, rest := n-1, code; i >= 0; i-- {
			to[i] = rest % n
			used[to[i]] = true
			rest /= n
		}
		if len(used) < n {
			continue
		}
		for i, j := range to {
			h[i][j] += math.Exp(c[k]) / sum
		}
		k++
	}
	return h
}

// sinkhorn is equation 9 of arXiv 2512.24880, word for word.
func sinkhorn(iterations int) func(c []float64, n int) [][]float64 {
	return func(c []float64, n int) [][]float64 {
		m := square(n)
		for i := range n * n {
			m[i/n][i%n] = math.Exp(c[i])
		}
		for range iterations {
			for j := range n {
				sum := 0.0
				for i := range n {
					sum += m[i][j]
				}
				for i := range n {
					m[i][j] /= sum
				}
			}
			for i := range n {
				sum := 0.0
				for _, v := range m[i] {
					sum += v
				}
				for j := range n {
					m[i][j] /= sum
				}
			}
		}
		return m
	}
}

// kronecker gives streams i and j the product over the bits of their numbers:
// the share of the identity of a factor where the bits agree, else that of the
// swap. The first factor has the highest bit (arXiv 2601.21579).
func kronecker(c []float64, n int) [][]float64 {
	h, K := square(n), len(c)/2
	for i := range n {
		for j := range n {
			h[i][j] = 1
			for f := range K {
				agree, differ := math.Exp(c[2*f]), math.Exp(c[2*f+1])
				share := agree
				if (i^j)>>(K-1-f)&1 == 1 {
					share = differ
				}
				h[i][j] *= share / (agree + differ)
			}
		}
	}
	return h
}

func unmixed(_ []float64, n int) [][]float64 {
	h := square(n)
	for i := range n {
		h[i][i] = 1
	}
	return h
}

// hyper is equations 2 and 10 to 13 of arXiv 2409.19606 with A_r transposed,
// static where there are no weights.
func hyper(v values, l int, s [][]float64) (pre, post []float64, h [][]float64) {
	n := len(s)
	name := func(p string) []float64 { return v[subLayer(l)+".hc."+p] }
	pre, post, h = make([]float64, n), make([]float64, n), square(n)
	for i, x := range s {
		term := func(scale string, row int) float64 {
			w := name("weight")
			if w == nil {
				return 0
			}
			C := len(x)
			return name(scale)[0] * math.Tanh(dot(w[row*C:(row+1)*C], rmsNorm(x, name("norm"))))
		}
		pre[i] = name("pre")[i] + term("alpha", 0)
		post[i] = name("post")[i] + term("beta", 1)
		for j := range n {
			h[j][i] = name("res")[j*n+i] + term("alpha", 2+j)
		}
	}
	return pre, post, h
}

// Read, Write and Mixing are what the papers' formulas give, token by token.
func TestResidualsAreTheirFormulas(t *testing.T) {
	const N, C = 5, 6
	for spec, f := range formulas {
		t.Run(spec, func(t *testing.T) {
			r := open(t, spec)
			n := r.(framework.Mixer).Width()
			for l := range 3 {
				g := oneSubLayer(t, r, l, N, n, C)
				v, s, y := moved(g, 1), normal("s", N, n, C), normal("y", N, C)
				out := compute(t, g, v, s, y)
				want := expected(f, v, l, s, y)
				if len(out[2]) < len(want[2]) { // static
					want[2] = want[2][:n*n]
				}
				for i, what := range []string{"Read", "Write", "Mixing"} {
					near(t, fmt.Sprintf("%s of sub-layer %d", what, l), out[i], want[i], 1e-12)
				}
			}
		})
	}
}

// oneSubLayer has inputs s [N,n,C] and y [N,C] and outputs Read, Write, Mixing.
func oneSubLayer(t *testing.T, r framework.Residual, l, N, n, C int) *graph.Graph {
	return trace(t, func(b *graph.Builder) {
		s, y := b.Input("s", tensor.F32, N, n, C), b.Input("y", tensor.F32, N, C)
		b.In(subLayer(l), func() {
			b.Output("x", r.Read(b, l, s))
			b.Output("s2", r.Write(b, l, s, y))
			b.Output("h", r.(framework.Mixer).Mixing(b, l, s))
		})
	})
}

func expected(f formula, v values, l int, s, y *tensor.Tensor) [3][]float64 {
	N, n, C := s.Shape[0], s.Shape[1], s.Shape[2]
	var want [3][]float64
	for k := range N {
		streams := make([][]float64, n)
		for i := range streams {
			streams[i] = s.F64()[(k*n+i)*C : (k*n+i+1)*C]
		}
		pre, post, h := f(v, l, streams)
		for c := range C {
			x := 0.0
			for i := range n {
				x += pre[i] * streams[i][c]
			}
			want[0] = append(want[0], x)
		}
		for i := range n {
			for c := range C {
				x := post[i] * y.F64()[k*C+c]
				for j := range n {
					x += h[i][j] * streams[j][c]
				}
				want[1] = append(want[1], x)
			}
			want[2] = append(want[2], h[i]...)
		}
	}
	return want
}
