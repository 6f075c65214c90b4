package graph_test

import (
	"math"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/eval"
	"github.com/ternlm/tern/framework/tensor"
)

// results runs g without states in float64.
func results(t *testing.T, g *graph.Graph, in ...*tensor.Tensor) []float64 {
	t.Helper()
	be := eval.New()
	exec, err := be.Compile(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	store, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]*tensor.Tensor, len(g.Outputs))
	for i, o := range g.Outputs {
		out[i] = tensor.New(tensor.T(tensor.F64, o.Value.Shape()...))
	}
	if err := exec.Run(t.Context(), store, in, out); err != nil {
		t.Fatal(err)
	}
	var all []float64
	for _, o := range out {
		all = append(all, o.F64()...)
	}
	return all
}

func point(v ...float64) *tensor.Tensor {
	x := tensor.New(tensor.T(tensor.F64, len(v)))
	copy(x.F64(), v)
	return x
}

// What is computed twice is swept once, with the sum of what its copies get:
// of exp(sin(x)) y and of its square, by x.
func TestThePullbackSweepsAValueThatStandsTwiceOnce(t *testing.T) {
	g := traced(t, func(b *B) {
		x, y := in(b, "x", 2), in(b, "y", 2)
		f := func() graph.Value { return b.Exp(b.Sin(x)) }
		first, second := f(), f()
		loss := b.SumAll(b.Add(b.Mul(first, y), b.Mul(second, second)))
		b.Output("dx", b.Gradients(loss, []graph.Value{x})[0])
	})
	if n := strings.Count(g.String(), " cos"); n != 1 {
		t.Errorf("%d pullbacks of sin, want 1:\n%s", n, g)
	}
	x, y := []float64{0.3, -1.2}, []float64{2, -5}
	for i, d := range results(t, g, point(x...), point(y...)) {
		e := math.Exp(math.Sin(x[i]))
		if want := (y[i] + 2*e) * e * math.Cos(x[i]); math.Abs(d-want) > 1e-12 {
			t.Errorf("derivative %d is %v, want %v", i, d, want)
		}
	}
}

// A value that is differentiated by is a variable of its own: its twin is none
// of its uses.
func TestWhatIsDifferentiatedByHasNoTwin(t *testing.T) {
	g := traced(t, func(b *B) {
		x := in(b, "x", 2)
		one, other := b.Exp(x), b.Exp(x)
		loss := b.SumAll(b.Add(b.Scale(one, 2), b.Scale(other, 3)))
		for i, d := range b.Gradients(loss, []graph.Value{one, other, x}) {
			b.Output([]string{"one", "other", "x"}[i], d)
		}
	})
	got := results(t, g, point(0, 1))
	for i, want := range []float64{2, 2, 3, 3, 5, 5 * math.E} {
		if math.Abs(got[i]-want) > 1e-12 {
			t.Errorf("element %d is %v, want %v", i, got[i], want)
		}
	}
}

// Ops that differ in an attribute, an operand or their place are no twins.
func TestValuesThatDifferAreNoTwins(t *testing.T) {
	g := traced(t, func(b *B) {
		x, y := in(b, "x", 2), in(b, "y", 2)
		loss := b.Add(b.SumAll(b.Mul(b.Scale(x, 2), b.Sub(x, y))), b.SumAll(b.Mul(b.Scale(x, 3), b.Sub(y, x))))
		b.Output("dx", b.Gradients(loss, []graph.Value{x})[0])
	})
	// 2x(x-y) + 3x(y-x) = x(y-x)
	for i, d := range results(t, g, point(1, 2), point(5, -3)) {
		if want := []float64{5 - 2*1, -3 - 2*2}[i]; math.Abs(d-want) > 1e-12 {
			t.Errorf("derivative %d is %v, want %v", i, d, want)
		}
	}
}

func traced(t *testing.T, fn func(b *B)) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(fn)
	if err != nil {
		t.Fatal(err)
	}
	return g
}
