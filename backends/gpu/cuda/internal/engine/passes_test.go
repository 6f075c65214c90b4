package engine_test

import (
	"slices"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// double is an op of a pass alone.
var double = &graph.Op{
	Name: "double", Attr: graph.ConstAttr{}, Arity: 1, Results: 1,
	Infer: func(n *graph.Node) []tensor.Type { return []tensor.Type{n.In[0].Type()} },
}

// doubling has double in place of every sum of a value with itself.
func doubling(g *graph.Graph) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		env := map[graph.Value]graph.Value{}
		for _, n := range g.Nodes {
			in := make([]graph.Value, len(n.In))
			for i, v := range n.In {
				in[i] = env[v]
			}
			if n.Op.Name == "add" && in[0] == in[1] {
				env[graph.Value{N: n}] = b.Apply(double, graph.ConstAttr{Value: 2}, in[0])[0]
				continue
			}
			env[graph.Value{N: n}] = graph.Value{N: b.Copy(n, in)}
		}
		for _, o := range g.Outputs {
			b.Output(o.Name, env[o.Value])
		}
	})
}

func TestPassesBringOpsOfTheirOwn(t *testing.T) {
	kernels := table()
	kernels[double] = kernels[graph.Lookup("scale")]
	backend := func(passes ...func(*graph.Graph) (*graph.Graph, error)) *engine.Backend {
		return engine.New(engine.Config{Name: "cuda", Device: cudatest.Open(t, engine.F32), Table: kernels, Passes: passes})
	}
	b := backend(doubling)
	s, err := b.NewStore()
	must(t, err)
	defer s.Close()
	g, err := graph.Trace(func(b *graph.Builder) {
		x := b.Input("x", tensor.F32, 2)
		b.Output("y", b.Add(x, x))
	})
	must(t, err)
	p, err := b.Plan(g)
	must(t, err)
	if !slices.ContainsFunc(p.Graph.Nodes, func(n *graph.Node) bool { return n.Op == double }) {
		t.Errorf("the plan is\n%v", p.Graph)
	}
	e, err := b.Compile(ctx, g)
	must(t, err)
	defer e.Close()
	y := floats(0, 0)
	must(t, e.Run(ctx, s, []*tensor.Tensor{floats(3, -4)}, []*tensor.Tensor{y}))
	if !slices.Equal(y.F32(), []float32{6, -8}) {
		t.Errorf("got %v", y.F32())
	}
	if ops := b.Describe().Native; slices.Contains(ops, "double") || !slices.Contains(ops, "add") {
		t.Errorf("ops of the language of graphs: %v", ops)
	}
	broken := errors.New("broken")
	if _, err := backend(func(*graph.Graph) (*graph.Graph, error) { return nil, broken }).Plan(g); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
