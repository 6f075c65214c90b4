package residualtest

import (
	"context"
	"fmt"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// spreads move parameters off their inits: not at all, a little, a lot.
var spreads = []float64{0, 0.5, 4}

// basis is one token a stream: stream j of token j is 1, 2, ..., the others 0.
// What a sub-layer makes of token j is column j of its matrix.
func basis(S, C int) *tensor.Tensor {
	t := tensor.New(tensor.T(tensor.F64, S, S, C))
	for j := range S {
		for c := range C {
			t.F64()[(j*S+j)*C+c] = float64(c + 1)
		}
	}
	return t
}

// mixing writes 0 to basis streams, and to random ones: the matrix may follow
// the token, and what it says of a token must hold for that token.
func (s *tester) mixing(ctx context.Context) (string, error) {
	S, C := s.mixer.Width(), 3
	if S < 1 {
		return "", errors.Newf("%d streams", S)
	}
	form := ""
	for _, in := range []*tensor.Tensor{basis(S, C), normal("s", 7, S, C)} {
		for _, spread := range spreads {
			for l := range 4 {
				out, err := s.mixed(ctx, spread, l, in)
				if err != nil {
					return "", err
				}
				if err := s.checkMatrix(out[1]); err != nil {
					return "", err
				}
				if err := sameMixture(out[0], out[1], in); err != nil {
					return "", errors.Wrapf(err, "sub-layer %d", l)
				}
				form = fmt.Sprintf("%d streams, matrix %v", S, out[1].Shape)
			}
		}
	}
	return form, nil
}

// mixed gives Write(s, 0) and Mixing(s) of sub-layer l.
func (s *tester) mixed(ctx context.Context, spread float64, l int, in *tensor.Tensor) ([]*tensor.Tensor, error) {
	N, S, C := in.Shape[0], in.Shape[1], in.Shape[2]
	return s.once(ctx, spread, []*tensor.Tensor{in}, func(b *graph.Builder) {
		stream := b.Input("s", tensor.F32, N, S, C)
		y := b.Const(0, tensor.T(tensor.F32, N, C))
		b.Output("s2", at(b, l, func() graph.Value { return s.r.Write(b, l, stream, y) }))
		b.Output("h", at(b, l, func() graph.Value { return s.matrix(b, l, stream) }))
	})
}

// matrix is Mixing, if that has one of its two shapes.
func (s *tester) matrix(b *graph.Builder, l int, stream graph.Value) graph.Value {
	h, N, S := s.mixer.Mixing(b, l, stream), stream.Dim(0), stream.Dim(1)
	if d := h.Shape(); !d.Equal(tensor.Shape{S, S}) && !d.Equal(tensor.Shape{N, S, S}) {
		graph.Fail("Mixing is %v, wants [%d,%d] or [%d,%d,%d]", h.Type(), S, S, N, S, S)
	}
	return h
}

// checkMatrix refuses elements that are no finite numbers.
func (s *tester) checkMatrix(h *tensor.Tensor) error {
	for _, v := range h.F64() {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return errors.Newf("Mixing has an element %v", v)
		}
	}
	return nil
}

// sameMixture compares what Write made of the streams with h times them.
func sameMixture(got, h, streams *tensor.Tensor) error {
	S, C := streams.Shape[1], streams.Shape[2]
	for k, v := range got.F64() {
		n, i, c := k/C/S, k/C%S, k%C
		want, scale := 0.0, 1.0
		for j, a := range token(h, n, S)[i*S : (i+1)*S] {
			x := a * streams.F64()[(n*S+j)*C+c]
			want, scale = want+x, max(scale, math.Abs(x))
		}
		if !(math.Abs(v-want) <= 1e-12*scale) {
			return errors.Newf("token %d: stream %d becomes %v, Mixing says %v", n, i, v, want)
		}
	}
	return nil
}

// token is the matrix of token n in h [S,S] or [N,S,S].
func token(h *tensor.Tensor, n, S int) []float64 {
	if len(h.Shape) == 2 {
		n = 0
	}
	return h.F64()[n*S*S : (n+1)*S*S]
}

// walkers is how many tokens walk through a stack whose matrices are looked at.
const walkers = 3

// path gives the matrices of sub-layers 0 to n-1 on the path of a few tokens:
// those of each sub-layer on the streams that the ones before it leave.
func (s *tester) path(ctx context.Context, n int, spread float64) ([]*tensor.Tensor, error) {
	S := s.mixer.Width()
	return s.once(ctx, spread, []*tensor.Tensor{normal("s", walkers, S, 5)}, func(b *graph.Builder) {
		stream := b.Input("s", tensor.F32, walkers, S, 5)
		for l := range n {
			b.Output(fmt.Sprint("h", l), at(b, l, func() graph.Value { return s.matrix(b, l, stream) }))
			stream = s.sublayer(b, l, stream, b.Sin)
		}
	})
}

func (s *tester) stochastic(ctx context.Context) (string, error) {
	S, most := s.mixer.Width(), 0.0
	for _, spread := range spreads {
		hs, err := s.path(ctx, 8, spread)
		if err != nil {
			return "", err
		}
		for l, h := range hs {
			for n := range walkers {
				m := token(h, n, S)
				if most = max(most, violation(m, S)); !(most <= 1e-6) {
					return "", errors.Newf("sub-layer %d, parameters moved by %v, token %d: %v violates by %.1e", l, spread, n, m, most)
				}
			}
		}
	}
	return fmt.Sprintf("violation %.1e", most), nil
}

// violation is how far the n by n matrix m is from doubly stochastic: the
// largest difference of a row's or column's sum to 1, or a negative element. It
// is infinite where an element is no number.
func violation(m []float64, n int) float64 {
	most := 0.0
	rows, cols := sums(m, n, func(x float64) float64 { return x })
	for i := range n {
		most = max(most, math.Abs(rows[i]-1), math.Abs(cols[i]-1))
	}
	for _, v := range m {
		most = max(most, -v)
	}
	if math.IsNaN(most) {
		return math.Inf(1)
	}
	return most
}

// sums adds f of the elements of each row and of each column.
func sums(h []float64, n int, f func(float64) float64) (rows, cols []float64) {
	rows, cols = make([]float64, n), make([]float64, n)
	for i := range n {
		for j := range n {
			rows[i] += f(h[i*n+j])
			cols[j] += f(h[i*n+j])
		}
	}
	return rows, cols
}

// mean writes 0 to streams of random contents.
func (s *tester) mean(ctx context.Context) (string, error) {
	S := s.mixer.Width()
	for _, spread := range spreads {
		for l := range 3 {
			out, err := s.once(ctx, spread, []*tensor.Tensor{normal("s", 3, S, 5)}, func(b *graph.Builder) {
				stream := b.Input("s", tensor.F32, 3, S, 5)
				y := b.Const(0, tensor.T(tensor.F32, 3, 5))
				b.Output("before", b.Mean(stream, 1))
				b.Output("after", b.Mean(at(b, l, func() graph.Value { return s.r.Write(b, l, stream, y) }), 1))
			})
			if err != nil {
				return "", err
			}
			if _, err := within(fmt.Sprintf("the mean after sub-layer %d", l), out[1].F64(), out[0].F64(), 1e-6); err != nil {
				return "", err
			}
		}
	}
	return "", nil
}

// gain multiplies the matrices on the path of each token.
func (s *tester) gain(ctx context.Context) (string, error) {
	const layers = 64
	S, most := s.mixer.Width(), 0.0
	for _, spread := range spreads {
		hs, err := s.path(ctx, layers, spread)
		if err != nil {
			return "", err
		}
		for n := range walkers {
			p := make([]float64, S*S)
			for i := range S {
				p[i*S+i] = 1
			}
			for _, h := range hs {
				p = times(token(h, n, S), p, S)
			}
			rows, cols := sums(p, S, math.Abs)
			for i := range S {
				most = max(most, rows[i], cols[i])
			}
		}
	}
	if !(most <= 1+1e-6) {
		return "", errors.Newf("the gain over %d sub-layers is %.9f", layers, most)
	}
	return fmt.Sprintf("gain %.9f over %d sub-layers", most, layers), nil
}

// times is the product of two n by n matrices.
func times(x, y []float64, n int) []float64 {
	z := make([]float64, n*n)
	for i := range n {
		for j := range n {
			for k := range n {
				z[i*n+j] += x[i*n+k] * y[k*n+j]
			}
		}
	}
	return z
}
