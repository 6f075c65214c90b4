package quantized_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%+v", err)
	}
}

var ternary = graph.LinearAttr{Levels: []int8{-1, 0, 1}, ActBits: 8}

// layers adds layers on x.
type layers struct {
	*graph.Builder
	count int
}

func (l *layers) on(x graph.Value) graph.Value { return l.with(x, ternary) }

func (l *layers) with(x graph.Value, a graph.LinearAttr) graph.Value {
	l.count++
	k := x.Dim(1)
	return l.CodeBookMatMul(x, l.Input(fmt.Sprint("codes", l.count), tensor.U2, k, k), l.Input(fmt.Sprint("scales", l.count), tensor.F32, 1, 1), a)
}

// shared is the ops of a graph after Share, in order, without inputs and padding.
func shared(t *testing.T, build func(l *layers)) []string {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) { build(&layers{Builder: b}) })
	must(t, err)
	g, err = quantized.Share(g)
	must(t, err)
	var ops []string
	for _, n := range g.Nodes {
		if !n.IsInput() && !n.IsState() && n.Op.Name != "sin" {
			ops = append(ops, n.Op.Name)
		}
	}
	return ops
}

// far adds nodes that have nothing to do with anything.
func far(l *layers) {
	x := l.Input(fmt.Sprint("far", l.count), tensor.F32, 1)
	for range 70 {
		x = l.Sin(x)
	}
}

func TestRowsAreSharedWhereThatTakesNoMemory(t *testing.T) {
	input := func(l *layers, rows int) graph.Value { return l.Sqrt(l.Input("x", tensor.F32, rows, 8)) }
	gain := func(l *layers) graph.Value { return l.Input("gain", tensor.F32, 8) }
	for name, c := range map[string]struct {
		build func(l *layers)
		want  string
	}{
		"two readers": {func(l *layers) {
			x := input(l, 5)
			l.on(x)
			l.on(x)
		}, "sqrt int8rows codebookmatmul.int8 codebookmatmul.int8"},
		"one reader": {func(l *layers) {
			l.on(input(l, 5))
		}, "sqrt codebookmatmul"},
		"so few rows that readers quantize them": {func(l *layers) {
			x := l.RMSNorm(input(l, quantized.OwnRows), gain(l), 1e-6)
			l.on(x)
			l.on(x)
		}, "sqrt rmsnorm codebookmatmul codebookmatmul"},
		"activations that are no integers": {func(l *layers) {
			x := input(l, 5)
			l.with(x, graph.LinearAttr{Levels: ternary.Levels})
			l.with(x, graph.LinearAttr{Levels: ternary.Levels})
		}, "sqrt codebookmatmul codebookmatmul"},
		"readers far from each other": {func(l *layers) {
			x := input(l, 5)
			l.on(x)
			far(l)
			l.on(x)
		}, "sqrt int8rows codebookmatmul.int8 codebookmatmul.int8"},
		"x is read in between": {func(l *layers) {
			x := input(l, 5)
			l.on(x)
			l.Neg(x)
			far(l)
			l.on(x)
		}, "sqrt int8rows codebookmatmul.int8 neg codebookmatmul.int8"},
		"x is read later": {func(l *layers) {
			x := input(l, 5)
			l.on(x)
			l.on(x)
			far(l)
			l.on(x)
			l.on(x)
			l.Neg(x)
		}, "sqrt int8rows codebookmatmul.int8 codebookmatmul.int8 int8rows codebookmatmul.int8 codebookmatmul.int8 neg"},
		"a view of x is a result": {func(l *layers) {
			x := input(l, 5)
			l.on(x)
			far(l)
			l.on(x)
			l.Output("x", l.Reshape(x, 8, 5))
		}, "sqrt codebookmatmul codebookmatmul reshape"},
		"x is an input": {func(l *layers) {
			x := l.Input("x", tensor.F32, 5, 8)
			l.on(x)
			far(l)
			l.on(x)
		}, "codebookmatmul codebookmatmul"},
		"a norm": {func(l *layers) {
			l.on(l.RMSNorm(input(l, 5), gain(l), 1e-6))
		}, "sqrt rmsnorm.int8 codebookmatmul.int8"},
		"a norm that others read": {func(l *layers) {
			x := l.RMSNorm(input(l, 5), gain(l), 1e-6)
			l.on(x)
			l.on(x)
			l.Neg(x)
		}, "sqrt rmsnorm int8rows codebookmatmul.int8 codebookmatmul.int8 neg"},
		"a norm that is a result": {func(l *layers) {
			x := l.RMSNorm(input(l, 5), gain(l), 1e-6)
			l.on(x)
			l.Output("x", x)
		}, "sqrt rmsnorm codebookmatmul"},
		"a gate": {func(l *layers) {
			x := input(l, 5)
			l.on(l.SwiGLU(l.on(x), l.on(x)))
		}, "sqrt int8rows codebookmatmul.int8 codebookmatmul.int8 swiglu.int8 codebookmatmul.int8"},
		"rows that multiply themselves": {func(l *layers) {
			x := input(l, 8)
			codes, scales := l.Input("c", tensor.U2, 8, 8), l.Input("s", tensor.F32, 1, 1)
			l.Apply(graph.Lookup("codebookmatmul.vjp"), ternary, x, codes, scales, x)
			l.on(x)
		}, "sqrt int8rows codebookmatmul.vjp.int8 codebookmatmul.int8"},
	} {
		if got := strings.Join(shared(t, c.build), " "); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, c.want)
		}
	}
}

// The memory of a graph in which rows are kept for a gradient is less by what codes
// are smaller.
func TestCodesAreKeptInPlaceOfActivations(t *testing.T) {
	const n, k = 64, 64
	g, err := graph.Trace(func(b *graph.Builder) {
		l := &layers{Builder: b}
		x := b.Input("x", tensor.F32, n, k)
		kept := make([]graph.Value, 8)
		for i := range kept {
			x = b.Sin(x)
			kept[i] = x
			l.on(x)
		}
		for _, v := range kept {
			l.on(v)
		}
	})
	must(t, err)
	after, err := quantized.Share(g)
	must(t, err)
	was, is := compile.Place(g, 256, nil).Arena, compile.Place(after, 256, nil).Arena
	// Eight arrays of f32 were kept; now at most two, and eight of codes with units.
	if saved := 6*4*n*k - 8*(n*k+4*n); was-is < saved {
		t.Errorf("the arena has %d bytes, had %d: %d fewer, want %d", is, was, was-is, saved)
	}
}
