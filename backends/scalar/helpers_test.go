package scalar_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

// primitives is the reference table without its composites, so that they run
// as their expansions.
func primitives[F scalar.Float]() host.Table {
	t := scalar.Kernels[F]()
	for op := range t {
		if op.Composite() {
			delete(t, op)
		}
	}
	return t
}

// runner compiles a graph once and runs it on inputs by name.
type runner struct {
	t   testing.TB
	g   *graph.Graph
	exe framework.Executable
	st  framework.Store
	out []*tensor.Tensor
}

func newRunner(t testing.TB, b framework.Backend, g *graph.Graph) *runner {
	t.Helper()
	t.Cleanup(func() { _ = b.Close() })
	exe, err := b.Compile(context.Background(), g)
	if err != nil {
		t.Fatal(err)
	}
	st, err := b.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{t: t, g: g, exe: exe, st: st}
	wide := strings.HasSuffix(b.Name(), "64")
	for _, o := range g.Outputs {
		typ := o.Value.Type()
		if wide && typ.DType == tensor.F32 {
			typ.DType = tensor.F64
		}
		r.out = append(r.out, tensor.New(typ))
	}
	return r
}

func (r *runner) run(in map[string]*tensor.Tensor) error {
	args := make([]*tensor.Tensor, len(r.g.Inputs))
	for i, n := range r.g.Inputs {
		args[i] = in[n.Name()]
	}
	return r.exe.Run(context.Background(), r.st, args, r.out)
}

// bytes runs and returns the outputs' bytes.
func (r *runner) bytes(in map[string]*tensor.Tensor) []string {
	r.t.Helper()
	if err := r.run(in); err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, o := range r.out {
		out = append(out, string(o.Data))
	}
	return out
}

// floats runs and returns the outputs' values.
func (r *runner) floats(in map[string]*tensor.Tensor) [][]float64 {
	r.t.Helper()
	if err := r.run(in); err != nil {
		r.t.Fatal(err)
	}
	var out [][]float64
	for _, o := range r.out {
		out = append(out, values(o))
	}
	return out
}

// values is tensor.Floats for any encoding that has whole bytes.
func values(t *tensor.Tensor) []float64 {
	var out []float64
	switch t.DType {
	case tensor.I32:
		for _, v := range t.I32() {
			out = append(out, float64(v))
		}
	case tensor.Bool, tensor.U1, tensor.U2, tensor.U4:
		for _, v := range t.Data {
			out = append(out, float64(v))
		}
	default:
		return t.Floats()
	}
	return out
}

func trace(t *testing.T, fn func(b *graph.Builder)) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(fn)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func backend64(table host.Table, c host.Config) framework.Backend {
	c.Float64 = true
	return host.New("test64", table, c)
}

func backend32(table host.Table, c host.Config) framework.Backend {
	return host.New("test32", table, c)
}

// random returns values from N(0,1), a stream by name.
func random(name string, n int) []float64 {
	k, out := rng.NewKey(1, name), make([]float64, n)
	for i := range out {
		out[i] = k.Normal(uint64(i))
	}
	return out
}

// far is the largest difference of x and y relative to 1 + the largest |y|.
func far(x, y []float64) float64 {
	top, diff := 1.0, 0.0
	for i := range y {
		top = max(top, math.Abs(y[i]))
		if d := math.Abs(x[i] - y[i]); !(d <= diff) {
			diff = d
		}
	}
	return diff / top
}

func sameShape(t *testing.T, got, want [][]float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d results, want %d", len(got), len(want))
	}
	for i := range want {
		if len(got[i]) != len(want[i]) {
			t.Fatalf("result %d has %d elements, want %d", i, len(got[i]), len(want[i]))
		}
	}
}

var one = host.Config{Threads: 1}
