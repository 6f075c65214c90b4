package plugins

import (
	"bytes"
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/quanttest"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/layers"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/train"
)

// lsq is ternary with one learned step a weight and its own gradient (arXiv
// 1902.08153).
type lsq struct{}

func (lsq) Spec() string { return "lsq" }

func (lsq) Format() framework.Format {
	return framework.Format{Bits: 2, Levels: []int8{-1, 0, 1}, Group: framework.GroupTensor, ActBits: 8}
}

func (lsq) step(b *graph.Builder) graph.Value {
	return b.Param("step", graph.ConstInit(0.02), 1, 1)
}

func (lsq) clamped(b *graph.Builder, w, s graph.Value) graph.Value {
	return b.Min(b.Max(b.Div(w, s), b.Like(w, -1)), b.Like(w, 1))
}

func (q lsq) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	s := q.step(b)
	return b.Encode(b.Round(q.clamped(b, w, s)), q.Format().Code(), q.Format().Levels), s
}

func (q lsq) Surrogate(b *graph.Builder, w graph.Value) graph.Value {
	s := q.step(b)
	v := q.clamped(b, w, s)
	return b.Mul(b.Through(b.Round(v), v), s)
}

func init() {
	open := func(framework.Options) (framework.Quantizer, error) { return lsq{}, nil }
	framework.Quantizers.Register("lsq", open)
	asPlugin["lsq"] = func() {
		ServeQuantizer(Quantizer{Meta: Meta{Name: "lsq", Version: "1.0.0", Help: "Ternary with a learned step."}, Open: open})
	}
}

func TestAQuantizersOwnParameterAndGradientComeOver(t *testing.T) {
	c := dial(t, "lsq")
	local, remote := small(t, "lsq", "standard"), small(t, "plugin:lsq", "standard")
	got := graphs(t, remote)
	for name, want := range graphs(t, local) {
		if got[name] != want {
			t.Errorf("%s differs: %s", name, firstDifference(got[name], want))
		}
	}
	counts, _ := model.Count(must(remote.Parameters()))
	if want := 2*7 + 1; counts[model.Quantizer] != want || counts[model.Residuals] != 0 {
		t.Errorf("%d parameters of the quantizer and %d of the residual, want %d and 0", counts[model.Quantizer], counts[model.Residuals], want)
	}
	_, want := trained(t, local)
	_, params := trained(t, remote)
	moved := 0
	for name, w := range want {
		for i := range w {
			if params[name][i] != w[i] {
				t.Fatalf("%s[%d] is %v, built in %v", name, i, params[name][i], w[i])
			}
		}
		base, ok := strings.CutSuffix(name, ".step")
		if ok && w[0] != 0.02 {
			moved++
		}
		if s := params[base+".scales"]; ok && s[0] != w[0] {
			t.Errorf("%s was packed by %v, the step is %v", base, s[0], w[0])
		}
	}
	if moved != counts[model.Quantizer] {
		t.Errorf("%d steps moved", moved)
	}
	quanttest.Run(t, quanttest.Options{Open: func() (framework.Quantizer, error) { return c.Quantizer("") }, Skip: map[string]string{
		"powers of two": "the step is learned", "fidelity": "the step is learned", "repack": "the step is learned", "extremes": "the step is learned",
	}})
}

// The gradient of sum(r * linear(x)) by the weight and by the step is LSQ's,
// written as loops.
func TestTheGradientTakesTheSurrogate(t *testing.T) {
	const n, k, m = 3, 8, 4
	ctx := context.Background()
	be := scalar.Open64(1)
	defer func() { _ = be.Close() }()
	g := must(graph.Trace(func(b *graph.Builder) {
		l := layers.Linear{Quant: lsq{}}
		y := l.Apply(b, "l", b.Input("x", tensor.F32, n, k), m)
		params := b.Params()
		grads := b.Gradients(b.SumAll(b.Mul(y, b.Input("r", tensor.F32, n, m))), params)
		for i, p := range params {
			b.Output(p.N.Name(), grads[i])
		}
	}))
	draw := func(name string, std float64, dims ...int) *tensor.Tensor {
		x := tensor.New(tensor.T(tensor.F64, dims...))
		key := rng.NewKey(1, name)
		for i := range x.F64() {
			x.F64()[i] = std * key.Normal(uint64(i))
		}
		return x
	}
	x, r, w, step := draw("x", 1, n, k), draw("r", 1, n, m), draw("w", 0.02, m, k), 0.02
	st := must(be.NewStore())
	defer func() { _ = st.Close() }()
	put := func(name string, v *tensor.Tensor) {
		if err := st.Put(ctx, name, v); err != nil {
			t.Fatal(err)
		}
	}
	s := tensor.New(tensor.T(tensor.F64, 1, 1))
	s.F64()[0] = step
	put("l.weight", w)
	put("l.step", s)
	pack := must(graph.Trace(func(b *graph.Builder) {
		b.In("l", func() { layers.Linear{Quant: lsq{}}.Pack(b, b.Param("weight", graph.Init{}, m, k)) })
	}))
	if err := must(be.Compile(ctx, pack)).Run(ctx, st, nil, nil); err != nil {
		t.Fatal(err)
	}
	out := []*tensor.Tensor{tensor.New(tensor.T(tensor.F64, m, k)), tensor.New(tensor.T(tensor.F64, 1, 1))}
	if g.Outputs[0].Name != "l.weight" {
		t.Fatal(g.Outputs)
	}
	if err := must(be.Compile(ctx, g)).Run(ctx, st, []*tensor.Tensor{x, r}, out); err != nil {
		t.Fatal(err)
	}
	wantStep := 0.0
	for i := range m {
		for j := range k {
			dw := 0.0 // of the dequantized weight: r^T x^, x^ of 8 bits by row
			for row := range n {
				top := 0.0
				for c := range k {
					top = max(top, math.Abs(x.F64()[row*k+c]))
				}
				q := math.RoundToEven(x.F64()[row*k+j]/top*127) * top / 127
				dw += r.F64()[row*m+i] * q
			}
			v := w.F64()[i*k+j] / step
			inside, code := math.Abs(v) < 1, math.RoundToEven(max(-1, min(1, v)))
			want := 0.0
			if inside {
				want = dw
				wantStep += dw * (code - v)
			} else {
				wantStep += dw * code
			}
			if got := out[0].F64()[i*k+j]; math.Abs(got-want) > 1e-6 {
				t.Errorf("d weight[%d,%d] is %v, want %v", i, j, got, want)
			}
		}
	}
	if got := out[1].F64()[0]; math.Abs(got-wantStep) > 1e-5 {
		t.Errorf("d step is %v, want %v", got, wantStep)
	}
}

// A file holds codes and scales; what trained them is not needed to run it.
func TestAModelWithALearnedStepIsExported(t *testing.T) {
	dial(t, "lsq")
	ctx := context.Background()
	m := small(t, "plugin:lsq", "standard")
	be := must(framework.Backends.Open("scalar"))
	defer func() { _ = be.Close() }()
	r := must(train.LookupRecipe("default"))
	r.Window = 16
	tr := must(train.New(ctx, be, m, r))
	if err := tr.Initialize(ctx); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.gguf")
	w := must(modelfile.Collect(ctx, m, tr.Store()))
	if err := w.WriteGGUF(path); err != nil {
		t.Fatal(err)
	}
	back, err := modelfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = back.Close() }()
	if back.Model.Quant != "plugin:lsq" || len(back.Tensors) == 0 {
		t.Errorf("quantizer %s, %d tensors", back.Model.Quant, len(back.Tensors))
	}
	for name, x := range w.Tensors {
		if strings.HasSuffix(name, ".step") {
			t.Errorf("%s is in the file", name)
		}
		if y := back.Tensors[name]; y == nil || !bytes.Equal(x.Data, y.Data) {
			t.Errorf("%s differs", name)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	path := program(b, "ternary")
	for b.Loop() {
		c, err := Dial(context.Background(), DialOptions{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = c.Close()
		b.StartTimer()
	}
}

func BenchmarkFragment(b *testing.B) {
	c := dial(b, "ternary")
	q := must(c.Quantizer("group=64"))
	for b.Loop() {
		c.mu.Lock()
		clear(c.fragments)
		c.mu.Unlock()
		_ = must(graph.Trace(func(g *graph.Builder) { q.Pack(g, g.Input("w", tensor.F32, 64, 256)) }))
	}
}
