package residual_test

import (
	"math"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

func open(t *testing.T, spec string) framework.Residual {
	t.Helper()
	r, err := framework.Residuals.Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func trace(t *testing.T, fn func(b *graph.Builder)) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(fn)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// values are the parameters of a graph, by name.
type values map[string][]float64

// inits are the first values of the parameters of g.
func inits(g *graph.Graph) values {
	v := values{}
	for _, n := range g.Params() {
		init := n.Attr.(graph.ParamAttr).Init
		w := make([]float64, n.Out[0].Shape.Numel())
		for i := range w {
			w[i] = init.Mean
			if len(init.Values) > 0 {
				w[i] = init.Values[i%len(init.Values)]
			}
		}
		v[n.Name()] = w
	}
	return v
}

// moved are inits plus standard normal numbers times std.
func moved(g *graph.Graph, std float64) values {
	v := inits(g)
	for name, w := range v {
		for i, z := range normals(name, len(w)) {
			w[i] += std * z
		}
	}
	return v
}

func normals(name string, n int) []float64 {
	v, k := make([]float64, n), rng.NewKey(7, name)
	for i := range v {
		v[i] = k.Normal(uint64(i))
	}
	return v
}

func normal(name string, dims ...int) *tensor.Tensor {
	t := tensor.New(tensor.T(tensor.F64, dims...))
	copy(t.F64(), normals(name, len(t.F64())))
	return t
}

// compute runs g in float64.
func compute(t *testing.T, g *graph.Graph, v values, in ...*tensor.Tensor) [][]float64 {
	t.Helper()
	be := scalar.Open64(1)
	defer be.Close()
	exec, err := be.Compile(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Close()
	store, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, n := range g.Params() {
		w := tensor.New(tensor.T(tensor.F64, n.Out[0].Shape...))
		if copy(w.F64(), v[n.Name()]) != len(w.F64()) {
			t.Fatalf("%d values of %s, which is %v", len(v[n.Name()]), n.Name(), n.Out[0])
		}
		if err := store.Put(t.Context(), n.Name(), w); err != nil {
			t.Fatal(err)
		}
	}
	var out []*tensor.Tensor
	var floats [][]float64
	for _, o := range g.Outputs {
		w := tensor.New(tensor.T(tensor.F64, o.Value.Shape()...))
		out, floats = append(out, w), append(floats, w.F64())
	}
	if err := exec.Run(t.Context(), store, in, out); err != nil {
		t.Fatal(err)
	}
	return floats
}

// near fails unless got is want up to a relative difference.
func near(t *testing.T, what string, got, want []float64, bound float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if !(math.Abs(got[i]-w) <= bound*max(1, math.Abs(w))) {
			t.Errorf("%s: element %d is %.15g, want %.15g", what, i, got[i], w)
			return
		}
	}
}

// stack is sub-layers 0 to n-1 of sin(x W_l), pre-norm if asked.
func stack(b *graph.Builder, r framework.Residual, x graph.Value, n int, norm bool) graph.Value {
	s := r.Expand(b, x)
	for l := range n {
		b.In(subLayer(l), func() {
			h := r.Read(b, l, s)
			if norm {
				h = b.RMSNorm(h, b.Const(1, tensor.T(tensor.F32, h.Dim(1))), 1e-12)
			}
			y := b.Sin(b.MatMul(h, b.Param("branch", graph.NormalInit(1), h.Dim(1), h.Dim(1)), false, false))
			s = r.Write(b, l, s, y)
		})
	}
	return r.Collapse(b, s)
}

func subLayer(l int) string { return []string{"attn", "ffn"}[l%2] + string(rune('0'+l/2)) }
