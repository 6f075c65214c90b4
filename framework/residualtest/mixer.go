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

// mixing writes 0 to basis streams: stream j of sample j is 1. Stream i of
// what comes back is element [i,j] of the matrix.
func (s *tester) mixing(ctx context.Context) (string, error) {
	S := s.mixer.Width()
	if S < 1 {
		return "", errors.Newf("%d streams", S)
	}
	const C = 3
	basis := tensor.New(tensor.T(tensor.F64, S, S, C))
	for j := range S {
		for c := range C {
			basis.F64()[(j*S+j)*C+c] = float64(c + 1)
		}
	}
	for _, spread := range spreads {
		for l := range 4 {
			out, err := s.once(ctx, spread, []*tensor.Tensor{basis}, func(b *graph.Builder) {
				stream := b.Input("s", tensor.F32, S, S, C)
				y := b.Const(0, tensor.T(tensor.F32, S, C))
				b.Output("s2", at(b, l, func() graph.Value { return s.r.Write(b, l, stream, y) }))
				b.Output("h", at(b, l, func() graph.Value { return s.mixer.Mixing(b, l, stream) }))
			})
			if err != nil {
				return "", err
			}
			if want := (tensor.Shape{S, S}); !out[1].Shape.Equal(want) {
				return "", errors.Newf("Mixing is %v, wants [%d,%d]", out[1].Type, S, S)
			}
			for k, v := range out[0].F64() {
				j, i, c := k/C/S, k/C%S, k%C
				if h := out[1].F64()[i*S+j] * float64(c+1); !(math.Abs(v-h) <= 1e-12*max(1, math.Abs(h))) {
					return "", errors.Newf("sub-layer %d: stream %d gets %v of stream %d, Mixing says %v", l, i, v/float64(c+1), j, h/float64(c+1))
				}
			}
		}
	}
	return fmt.Sprintf("%d streams", S), nil
}

// matrices gives Mixing of sub-layers 0 to n-1.
func (s *tester) matrices(ctx context.Context, n int, spread float64) ([]*tensor.Tensor, error) {
	S := s.mixer.Width()
	return s.once(ctx, spread, []*tensor.Tensor{normal("s", 3, S, 5)}, func(b *graph.Builder) {
		stream := b.Input("s", tensor.F32, 3, S, 5)
		for l := range n {
			b.Output(fmt.Sprint("h", l), at(b, l, func() graph.Value { return s.mixer.Mixing(b, l, stream) }))
		}
	})
}

func (s *tester) stochastic(ctx context.Context) (string, error) {
	S, most := s.mixer.Width(), 0.0
	for _, spread := range spreads {
		hs, err := s.matrices(ctx, 8, spread)
		if err != nil {
			return "", err
		}
		for l, h := range hs {
			rows, cols := sums(h.F64(), S, func(x float64) float64 { return x })
			for i := range S {
				most = max(most, math.Abs(rows[i]-1), math.Abs(cols[i]-1))
			}
			for _, v := range h.F64() {
				most = max(most, -v)
			}
			if !(most <= 1e-6) {
				return "", errors.Newf("sub-layer %d, parameters moved by %v: %v violates by %.1e", l, spread, h.F64(), most)
			}
		}
	}
	return fmt.Sprintf("violation %.1e", most), nil
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

func (s *tester) gain(ctx context.Context) (string, error) {
	const layers = 64
	S, most := s.mixer.Width(), 0.0
	for _, spread := range spreads {
		hs, err := s.matrices(ctx, layers, spread)
		if err != nil {
			return "", err
		}
		p := make([]float64, S*S)
		for i := range S {
			p[i*S+i] = 1
		}
		for _, h := range hs {
			p = times(h.F64(), p, S)
		}
		rows, cols := sums(p, S, math.Abs)
		for i := range S {
			most = max(most, rows[i], cols[i])
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
