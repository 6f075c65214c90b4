package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	_ "github.com/ternlm/tern/backends/all"
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
	for _, spec := range []string{"nf4", "nf4:group=32", "nf4:group=128,scale=f32"} {
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
	for _, spec := range []string{"nf4:group=0", "nf4:group=row", "nf4:group=-1", "nf4:scale=bf16"} {
		if q, err := parse(spec); err == nil {
			t.Errorf("%s opens as %s", spec, q.Spec())
		}
	}
}

// The paper lists the levels to seven digits.
func TestLevelsAreThoseOfThePaper(t *testing.T) {
	want := []float64{
		-1, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0,
		0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1,
	}
	for i, w := range want {
		if got := float64(levels[i]) / top; math.Abs(got-w) > 0.5/top {
			t.Errorf("level %d is %g, the paper has %g", i, got, w)
		}
	}
	if len(levels) != len(want) || !slices.IsSorted(levels) {
		t.Errorf("levels %v", levels)
	}
}

// The scale is the largest magnitude over 127, as an f16 value; a weight gets the nearest level of all, found by trying each.
func TestCodesAreTheNearestLevels(t *testing.T) {
	const m, k, group = 8, 128, 32
	r := rand.New(rand.NewPCG(4, 16))
	w := tensor.New(tensor.T(tensor.F32, m, k))
	for i := range w.F32() {
		w.F32()[i] = float32(r.NormFloat64() * 0.02)
	}
	q := NF4{Group: group}
	codes, scales := pack(t, q, w)
	for g, s := range scales.F32() {
		most := 0.0
		for _, v := range w.F32()[g*group : (g+1)*group] {
			most = max(most, math.Abs(float64(v)))
		}
		if math.Abs(float64(s)*top-most) > most*0x1p-10 {
			t.Errorf("scale %d is %g, the largest weight %g", g, s, most)
		}
	}
	for i, v := range w.F32() {
		x := float64(v) / float64(scales.F32()[i/group])
		level := float64(levels[codes.Data[i/2]>>(i%2*4)&15])
		for _, l := range levels {
			if math.Abs(float64(l)-x) < math.Abs(level-x)-1e-4 {
				t.Fatalf("weight %d: %g has level %g, %d is nearer", i, x, level, l)
			}
		}
	}
}

// pack runs Pack once.
func pack(t testing.TB, q NF4, w *tensor.Tensor) (codes, scales *tensor.Tensor) {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) {
		codes, scales := q.Pack(b, b.Input("w", tensor.F32, w.Shape...))
		b.Output("codes", codes)
		b.Output("scales", scales)
	})
	if err != nil {
		t.Fatal(err)
	}
	codes, scales = tensor.New(g.Outputs[0].Value.Type()), tensor.New(g.Outputs[1].Value.Type())
	run, stop := compiled(t, "scalar", g, nil)
	defer stop()
	run([]*tensor.Tensor{w}, []*tensor.Tensor{codes, scales})
	return codes, scales
}

// compiled makes a function that runs g on a backend with the named states.
func compiled(t testing.TB, backend string, g *graph.Graph, states map[string]*tensor.Tensor) (run func(in, out []*tensor.Tensor), stop func()) {
	t.Helper()
	ctx := context.Background()
	be, err := framework.Backends.Open(backend)
	if err != nil {
		t.Fatal(err)
	}
	exec, err := be.Compile(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	store, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range states {
		if err := store.Put(ctx, name, v); err != nil {
			t.Fatal(err)
		}
	}
	run = func(in, out []*tensor.Tensor) {
		if err := exec.Run(ctx, store, in, out); err != nil {
			t.Fatal(err)
		}
	}
	return run, func() { _, _, _ = store.Close(), exec.Close(), be.Close() }
}

// BenchmarkLinear multiplies tokens by a weight in three ways: from its codes, as tern does; from the same codes
// dequantized in the graph, as it would without kernels for code books; and, for comparison, from f32 weights that were
// never quantized.
func BenchmarkLinear(b *testing.B) {
	w := tensor.New(tensor.T(tensor.F32, 3072, 3072))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range w.F32() {
		w.F32()[i] = float32(r.NormFloat64() * 0.02)
	}
	q := NF4{Group: 64}
	codes, scales := pack(b, q, w)
	states := map[string]*tensor.Tensor{"w": w, "codes": codes, "scales": scales}
	ways := []struct {
		name string
		way  func(g *graph.Builder, x graph.Value) graph.Value
	}{
		{"codes", func(g *graph.Builder, x graph.Value) graph.Value {
			return g.CodeBookMatMul(x, g.Buffer("codes", codes.Type), g.Buffer("scales", scales.Type), q.Format().Linear())
		}},
		{"dequantized", func(g *graph.Builder, x graph.Value) graph.Value {
			return g.MatMul(g.Int8(x), g.Dequantize(g.Buffer("codes", codes.Type), g.Buffer("scales", scales.Type), levels), false, true)
		}},
		{"f32", func(g *graph.Builder, x graph.Value) graph.Value {
			return g.MatMul(x, g.Buffer("w", w.Type), false, true)
		}},
	}
	for _, backend := range []string{"avx2", "scalar"} {
		for _, n := range []int{1, 64} {
			for _, w := range ways {
				b.Run(fmt.Sprintf("%s/tokens=%d/%s", backend, n, w.name), func(b *testing.B) { multiply(b, backend, n, states, w.way) })
			}
		}
	}
}

// multiply measures f of n tokens of 3072 numbers.
func multiply(b *testing.B, backend string, n int, states map[string]*tensor.Tensor, f func(g *graph.Builder, x graph.Value) graph.Value) {
	b.Helper()
	g, err := graph.Trace(func(g *graph.Builder) { g.Output("y", f(g, g.Input("x", tensor.F32, n, 3072))) })
	if err != nil {
		b.Fatal(err)
	}
	run, stop := compiled(b, backend, g, states)
	defer stop()
	x := tensor.New(g.Inputs[0].Out[0])
	r := rand.New(rand.NewPCG(3, 4))
	for i := range x.F32() {
		x.F32()[i] = float32(r.NormFloat64())
	}
	in, out := []*tensor.Tensor{x}, []*tensor.Tensor{tensor.New(tensor.T(tensor.F32, n, 3072))}
	run(in, out)
	for b.Loop() {
		run(in, out)
	}
}

// A plugin has no kernels, and needs none: a token times codes takes less than a fifth of the time that it takes where the
// codes are dequantized first. Here it is a hundredth.
func TestCodesAreMultipliedInVectorKernels(t *testing.T) {
	if be, err := framework.Backends.Open("avx2"); err != nil {
		t.Skipf("no vector kernels: %v", err)
	} else if err := be.Close(); err != nil {
		t.Fatal(err)
	}
	q, w := NF4{Group: 64}, tensor.New(tensor.T(tensor.F32, 1024, 1024))
	r := rand.New(rand.NewPCG(5, 6))
	for i := range w.F32() {
		w.F32()[i] = float32(r.NormFloat64() * 0.02)
	}
	codes, scales := pack(t, q, w)
	states := map[string]*tensor.Tensor{"codes": codes, "scales": scales}
	least := func(way func(g *graph.Builder, x, codes, scales graph.Value) graph.Value) (best time.Duration) {
		g, err := graph.Trace(func(g *graph.Builder) {
			g.Output("y", way(g, g.Input("x", tensor.F32, 1, 1024), g.Buffer("codes", codes.Type), g.Buffer("scales", scales.Type)))
		})
		if err != nil {
			t.Fatal(err)
		}
		run, stop := compiled(t, "avx2", g, states)
		defer stop()
		in, out := []*tensor.Tensor{tensor.New(g.Inputs[0].Out[0])}, []*tensor.Tensor{tensor.New(tensor.T(tensor.F32, 1, 1024))}
		best = time.Hour
		for range 30 {
			start := time.Now()
			run(in, out)
			best = min(best, time.Since(start))
		}
		return best
	}
	fast := least(func(g *graph.Builder, x, codes, scales graph.Value) graph.Value {
		return g.CodeBookMatMul(x, codes, scales, q.Format().Linear())
	})
	slow := least(func(g *graph.Builder, x, codes, scales graph.Value) graph.Value {
		return g.MatMul(g.Int8(x), g.Dequantize(codes, scales, levels), false, true)
	})
	if t.Logf("codes %v, dequantized %v: %.0f times", fast, slow, slow.Seconds()/fast.Seconds()); slow < 5*fast {
		t.Errorf("codes take %v, dequantized ones %v", fast, slow)
	}
}
