package quanttest

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// value packs in one graph and multiplies there, as training does, and
// multiplies from stored codes in another, as inference does.
func (s *tester) value(ctx context.Context) (string, error) {
	w := s.weight()
	m, k := w.Shape[0], w.Shape[1]
	const n = 5
	x := normal("x", 1, n, k)
	train, err := graph.Trace(func(b *graph.Builder) {
		x, w := b.Input("x", tensor.F32, n, k), b.Input("w", tensor.F32, m, k)
		codes, scales := s.q.Pack(b, w)
		b.Output("y", b.BitLinear(x, w, codes, scales, s.f.Linear()))
		b.Output("codes", codes)
		b.Output("scales", scales)
	})
	if err != nil {
		return "", err
	}
	trained, err := run(ctx, s.be, s.wide, train, x, w)
	if err != nil {
		return "", err
	}
	stored, err := graph.Trace(func(b *graph.Builder) {
		t := trained[2].Shape
		b.Output("y", b.CodeBookMatMul(b.Input("x", tensor.F32, n, k), b.Input("codes", s.f.Code(), m, k), b.Input("scales", tensor.F32, t...), s.f.Linear()))
	})
	if err != nil {
		return "", err
	}
	inferred, err := run(ctx, s.be, s.wide, stored, x, trained[1], trained[2])
	if err != nil {
		return "", err
	}
	if !bytes.Equal(trained[0].Data, inferred[0].Data) {
		return "", errors.New("training and inference differ in bits")
	}
	p := &packed{scale: trained[2].Floats(), index: indices(trained[1])}
	want := product(s.activations(x.Floats(), k), s.dequantized(p, m, k), n, k, m, true)
	e := relative(trained[0].Floats(), want)
	if !(e < 1e-5) {
		return "", errors.Newf("relative error %.1e against x^ W^", e)
	}
	return fmt.Sprintf("relative error %.1e against x^ W^ in float64", e), nil
}

// activations is what the format makes of x: int8 by the absmax of each row.
func (s *tester) activations(x []float64, k int) []float64 {
	if s.f.ActBits == 0 {
		return x
	}
	out := make([]float64, len(x))
	for lo := 0; lo < len(x); lo += k {
		top := 1e-8
		for _, v := range x[lo : lo+k] {
			top = max(top, math.Abs(v))
		}
		for i, v := range x[lo : lo+k] {
			out[lo+i] = min(max(math.RoundToEven(v*127/top), -127), 127) * top / 127
		}
	}
	return out
}

func (s *tester) dequantized(p *packed, m, k int) []float64 {
	w, at := make([]float64, m*k), s.groups(m, k)
	for i, c := range p.index {
		l, _ := s.level(c)
		w[i] = l * p.scale[at[i]]
	}
	return w
}

// product is x [n,k] times y [k,m], or times the transpose of y [m,k].
func product(x, y []float64, n, k, m int, trans bool) []float64 {
	z := make([]float64, n*m)
	for i := range n {
		for j := range m {
			for c := range k {
				if trans {
					z[i*m+j] += x[i*k+c] * y[j*k+c]
				} else {
					z[i*m+j] += x[i*k+c] * y[c*m+j]
				}
			}
		}
	}
	return z
}

// relative is the largest error against the largest element.
func relative(got, want []float64) float64 {
	most, scale := 0.0, 1e-30
	for i := range want {
		scale = max(scale, math.Abs(want[i]))
		d := math.Abs(got[i] - want[i])
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		most = max(most, d)
	}
	return most / scale
}

// gradient differentiates sum(r * bitlinear(x, w, Pack(w))) in float64.
func (s *tester) gradient(ctx context.Context) (string, error) {
	w := s.weight()
	m, k := w.Shape[0], w.Shape[1]
	const n = 4
	g, err := graph.Trace(func(b *graph.Builder) {
		x, w, r := b.Input("x", tensor.F32, n, k), b.Input("w", tensor.F32, m, k), b.Input("r", tensor.F32, n, m)
		codes, scales := s.q.Pack(b, w)
		y := b.BitLinear(x, w, codes, scales, s.f.Linear())
		d := b.Gradients(b.SumAll(b.Mul(y, r)), []graph.Value{x, w})
		b.Output("dx", d[0])
		b.Output("dw", d[1])
		b.Output("codes", codes)
		b.Output("scales", scales)
	})
	if err != nil {
		return "", err
	}
	x, r := normal("x", 1, n, k), normal("r", 1, n, m)
	out, err := run(ctx, s.exact, true, g, x, w, r)
	if err != nil {
		return "", err
	}
	p := &packed{scale: out[3].Floats(), index: indices(out[2])}
	dx := product(r.Floats(), s.dequantized(p, m, k), n, m, k, false)
	rt := make([]float64, n*m)
	for i, v := range r.Floats() {
		rt[i%m*n+i/m] = v
	}
	dw := product(rt, s.activations(x.Floats(), k), m, n, k, false)
	ex, ew := relative(out[0].Floats(), dx), relative(out[1].Floats(), dw)
	if !(ex < 1e-12) {
		return "", errors.Newf("dX is off dY W^ by %.1e", ex)
	}
	if !(ew < 1e-12) {
		return "", errors.Newf("dW is off dY^T x^ by %.1e", ew)
	}
	return fmt.Sprintf("relative errors %.1e and %.1e", ex, ew), nil
}
