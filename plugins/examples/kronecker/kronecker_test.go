package main

import (
	"context"
	"math"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/residualtest"
	"github.com/ternlm/tern/framework/tensor"
)

// parse opens a spec as tern would.
func parse(spec string) (framework.Residual, error) {
	_, o, err := framework.ParseSpec(spec)
	if err != nil {
		return nil, err
	}
	return Open(o)
}

func TestConformance(t *testing.T) {
	for _, spec := range []string{"kronecker", "kronecker:streams=2", "kronecker:streams=8,mix=0.5"} {
		t.Run(spec, func(t *testing.T) {
			residualtest.Run(t, residualtest.Options{
				Open:      func() (framework.Residual, error) { return parse(spec) },
				Parse:     parse,
				Backend64: func() (framework.Backend, error) { return scalar.Open64(1), nil },
			})
		})
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	for _, spec := range []string{"kronecker:streams=3", "kronecker:streams=16", "kronecker:streams=two", "kronecker:mix=1e9", "kronecker:mix=x"} {
		if r, err := parse(spec); err == nil {
			t.Errorf("%s opens as %s", spec, r.Spec())
		}
	}
}

// Streams i and j of four differ in the bits of i xor j: each bit that differs is one factor's swap.
func TestMixingIsTheProductOfItsFactors(t *testing.T) {
	be := scalar.Open64(1)
	defer func() { _ = be.Close() }()
	ctx := context.Background()
	g, err := graph.Trace(func(b *graph.Builder) { b.Output("h", Kronecker{Streams: 4}.Mixing(b, 0, graph.Value{})) })
	if err != nil {
		t.Fatal(err)
	}
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
	logits := []float32{0.25, -1.5}
	if err := store.Put(ctx, "kronecker.mix", tensor.FromF32(logits, 2)); err != nil {
		t.Fatal(err)
	}
	h := tensor.New(tensor.T(tensor.F64, 4, 4))
	if err := exec.Run(ctx, store, nil, []*tensor.Tensor{h}); err != nil {
		t.Fatal(err)
	}
	share := func(f int, differ bool) float64 {
		a := 1 / (1 + math.Exp(-float64(logits[f])))
		if differ {
			return 1 - a
		}
		return a
	}
	for i := range 4 {
		for j := range 4 {
			want := share(0, (i^j)&2 != 0) * share(1, (i^j)&1 != 0)
			if got := h.F64()[4*i+j]; math.Abs(got-want) > 1e-12 {
				t.Errorf("H[%d,%d] is %g, want %g", i, j, got, want)
			}
		}
	}
}
