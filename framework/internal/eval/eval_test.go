package eval_test

import (
	"context"
	"math"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/eval"
	"github.com/ternlm/tern/framework/tensor"
)

// run evaluates fn, whose output is f32, on no inputs.
func run(t *testing.T, fn func(b *graph.Builder) graph.Value) []float64 {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) { b.Output("y", fn(b)) })
	if err != nil {
		t.Fatal(err)
	}
	be := eval.New()
	s, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	e, err := be.Compile(context.Background(), g)
	if err != nil {
		t.Fatal(err)
	}
	out := tensor.New(tensor.T(tensor.F64, g.Outputs[0].Value.Shape()...))
	if err := e.Run(context.Background(), s, nil, []*tensor.Tensor{out}); err != nil {
		t.Fatal(err)
	}
	return out.F64()
}

// TestKnownValues holds numbers worked out by hand.
func TestKnownValues(t *testing.T) {
	six := func(b *graph.Builder) graph.Value { return b.ConstList([]float64{1, 2, 3, 4, 5, 6}, 2, 3) }
	ids := func(b *graph.Builder, v float64, n int) graph.Value { return b.Const(v, tensor.T(tensor.I32, n)) }
	ternary := []int8{-1, 0, 1}
	for name, c := range map[string]struct {
		fn   func(b *graph.Builder) graph.Value
		want []float64
	}{
		"matmul":    {func(b *graph.Builder) graph.Value { return b.MatMul(six(b), six(b), false, true) }, []float64{14, 32, 32, 77}},
		"matmul tn": {func(b *graph.Builder) graph.Value { return b.MatMul(six(b), six(b), true, false) }, []float64{17, 22, 27, 22, 29, 36, 27, 36, 45}},
		"transpose": {func(b *graph.Builder) graph.Value { return b.Transpose(six(b), 1, 0) }, []float64{1, 4, 2, 5, 3, 6}},
		"slice":     {func(b *graph.Builder) graph.Value { return b.Slice(six(b), 1, 1, 3) }, []float64{2, 3, 5, 6}},
		"pad":       {func(b *graph.Builder) graph.Value { return b.Pad(b.Iota(2), 0, 1, 2) }, []float64{0, 0, 1, 0, 0}},
		"concat":    {func(b *graph.Builder) graph.Value { return b.Concat(1, six(b), b.Slice(six(b), 1, 0, 1)) }, []float64{1, 2, 3, 1, 4, 5, 6, 4}},
		"broadcast": {func(b *graph.Builder) graph.Value { return b.Sub(six(b), b.Reshape(b.Iota(2), 2, 1)) }, []float64{1, 2, 3, 3, 4, 5}},
		"sum":       {func(b *graph.Builder) graph.Value { return b.Sum(six(b), 0) }, []float64{5, 7, 9}},
		"amax":      {func(b *graph.Builder) graph.Value { return b.AMax(six(b), 1) }, []float64{3, 6}},
		"gather":    {func(b *graph.Builder) graph.Value { return b.Gather(six(b), ids(b, 1, 2)) }, []float64{4, 5, 6, 4, 5, 6}},
		"scatter":   {func(b *graph.Builder) graph.Value { return b.ScatterAdd(six(b), ids(b, 1, 2), 2) }, []float64{0, 0, 0, 5, 7, 9}},
		"updateat": {func(b *graph.Builder) graph.Value {
			return b.UpdateAt(six(b), b.Const(9, tensor.T(tensor.F32, 2, 2)), ids(b, 1, 2), 1)
		}, []float64{1, 9, 9, 4, 9, 9}},
		"round": {func(b *graph.Builder) graph.Value { return b.Round(b.Scale(six(b), 0.5)) }, []float64{0, 1, 2, 2, 2, 3}},
		"codes": {func(b *graph.Builder) graph.Value {
			return b.Decode(b.Encode(b.ConstList([]float64{-5, -0.6, 0.4, 0, 0.7}, 1, 5), tensor.U2, ternary), ternary)
		}, []float64{-1, -1, 0, 0, 1}},
		"f16": {func(b *graph.Builder) graph.Value {
			return b.Cast(b.Cast(b.ConstList([]float64{2049, 0.1}, 2), tensor.F16), tensor.F32)
		}, []float64{2048, 0.0999755859375}},
		"where": {func(b *graph.Builder) graph.Value {
			return b.Where(b.Less(six(b), b.Like(six(b), 3)), b.Neg(six(b)), six(b))
		}, []float64{-1, -2, 3, 4, 5, 6}},
		"softmax": {func(b *graph.Builder) graph.Value { return b.Softmax(b.ConstList([]float64{0, math.Log(3)}, 2)) }, []float64{0.25, 0.75}},
		"rope": {func(b *graph.Builder) graph.Value { // a quarter turn of the pair (1,2): position 1, theta^0
			return b.RoPE(b.ConstList([]float64{1, 2}, 1, 1, 1, 2), b.Const(1, tensor.T(tensor.I32, 1)), 100)
		}, []float64{math.Cos(1) - 2*math.Sin(1), math.Sin(1) + 2*math.Cos(1)}},
	} {
		got := run(t, c.fn)
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
			continue
		}
		for i, w := range c.want {
			if math.Abs(got[i]-w) > 1e-12 {
				t.Errorf("%s: %v, want %v", name, got, c.want)
				break
			}
		}
	}
}

func TestSingleRoundsToFloat32(t *testing.T) {
	g, err := graph.Trace(func(b *graph.Builder) { b.Output("y", b.Scale(b.Input("x", tensor.F32, 1), 0.1)) })
	if err != nil {
		t.Fatal(err)
	}
	be := &eval.Backend{Single: true}
	e, err := be.Compile(context.Background(), g)
	if err != nil {
		t.Fatal(err)
	}
	s, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	out := tensor.New(tensor.T(tensor.F32, 1))
	if err := e.Run(context.Background(), s, []*tensor.Tensor{tensor.FromF32([]float32{3}, 1)}, []*tensor.Tensor{out}); err != nil {
		t.Fatal(err)
	}
	if want := float32(3 * 0.1); out.F32()[0] != want {
		t.Errorf("%v, want %v", out.F32()[0], want)
	}
	if err := be.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := be.NewStore(); !errors.Is(err, framework.ErrClosed) {
		t.Errorf("store of a closed backend: %v", err)
	}
}
