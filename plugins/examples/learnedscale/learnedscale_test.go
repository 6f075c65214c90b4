package main

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/quanttest"
	"github.com/ternlm/tern/framework/tensor"
)

// parse opens a spec as tern would.
func parse(spec string) (framework.Quantizer, error) {
	_, o, err := framework.ParseSpec(spec)
	if err != nil {
		return nil, err
	}
	return Open(o)
}

func TestConformance(t *testing.T) {
	for _, spec := range []string{"learned-scale", "learned-scale:group=row", "learned-scale:group=32,scale=f32"} {
		t.Run(spec, func(t *testing.T) {
			quanttest.Run(t, quanttest.Options{
				Open:    func() (framework.Quantizer, error) { return parse(spec) },
				Parse:   parse,
				Backend: func() (framework.Backend, error) { return framework.Backends.Open("scalar") },
			})
		})
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	for _, spec := range []string{"learned-scale:group=0", "learned-scale:group=tensor", "learned-scale:scale=bf16"} {
		if q, err := parse(spec); err == nil {
			t.Errorf("%s opens as %s", spec, q.Spec())
		}
	}
}

// The gradients of sum(r y) by a plain loop over the formulas of the paper.
func TestGradientsAreThoseOfThePaper(t *testing.T) {
	const m, k, group = 3, 16, 8
	q := LearnedScale{Group: group, F32: true}
	g, err := graph.Trace(func(b *graph.Builder) {
		w, r := b.Input("w", tensor.F32, m, k), b.Input("r", tensor.F32, m, k)
		y := q.Surrogate(b, w)
		d := b.Gradients(b.SumAll(b.Mul(y, r)), append([]graph.Value{w}, b.Params()...))
		b.Output("dw", d[0])
		b.Output("dg", d[1])
	})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(19, 2))
	w, r := tensor.New(tensor.T(tensor.F64, m, k)), tensor.New(tensor.T(tensor.F64, m, k))
	for i := range w.F64() {
		w.F64()[i], r.F64()[i] = random.NormFloat64()*0.02, random.NormFloat64()
	}
	gain := tensor.New(tensor.T(tensor.F64, m, k/group))
	for i := range gain.F64() {
		gain.F64()[i] = 0.75 + random.Float64()/2
	}
	dw, dg := tensor.New(w.Type), tensor.New(gain.Type)
	run(t, g, gain, []*tensor.Tensor{w, r}, dw, dg)
	for at := range gain.F64() {
		lo := at * group
		want, wantGain := paper(w.F64()[lo:lo+group], r.F64()[lo:lo+group], gain.F64()[at])
		for i, v := range want {
			if got := dw.F64()[lo+i]; math.Abs(got-v) > 1e-9 {
				t.Errorf("weight %d has the gradient %g, want %g", lo+i, got, v)
			}
		}
		if got := dg.F64()[at]; math.Abs(got-wantGain) > 1e-9 {
			t.Errorf("gain %d has the gradient %g, want %g", at, got, wantGain)
		}
	}
}

// paper is the gradient of sum(r y) by the weights of a group and by its gain.
func paper(w, r []float64, gain float64) (dw []float64, dg float64) {
	n, mean := float64(len(w)), 0.0
	for _, x := range w {
		mean += math.Abs(x) / n
	}
	dw = make([]float64, len(w))
	for i, x := range w {
		if v := x / (gain * mean); math.Abs(v) < 1 {
			dw[i] = r[i]
			dg += r[i] * (math.RoundToEven(v) - v)
		} else {
			dg += r[i] * math.Copysign(1, v)
		}
	}
	return dw, dg * mean / math.Sqrt(n)
}

// run runs g once in float64 with a value of the parameter.
func run(t *testing.T, g *graph.Graph, gain *tensor.Tensor, in []*tensor.Tensor, out ...*tensor.Tensor) {
	t.Helper()
	ctx := context.Background()
	be := scalar.Open64(1)
	defer func() { _ = be.Close() }()
	exec, err := be.Compile(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = exec.Close() }()
	store, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	if err := store.Put(ctx, "gain", gain); err != nil {
		t.Fatal(err)
	}
	if err := exec.Run(ctx, store, in, out); err != nil {
		t.Fatal(err)
	}
}
