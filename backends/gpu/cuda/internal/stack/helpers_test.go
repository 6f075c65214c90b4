package stack_test

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fuse"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/attention"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/linear"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/rows"
	_ "github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	_ "github.com/ternlm/tern/quant"
	_ "github.com/ternlm/tern/residual"
	"github.com/ternlm/tern/train"
)

// checker is testing.T, or rapid.T.
type checker interface {
	Helper()
	Fatalf(format string, args ...any)
}

func must(t checker, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%+v", err)
	}
}

// random is a tensor of normal numbers that its name decides. Codes are zero.
func random(name string, t tensor.Type) *tensor.Tensor {
	h := fnv.New64()
	h.Write([]byte(name))
	r, x := rand.New(rand.NewPCG(h.Sum64(), 7)), tensor.New(t)
	if t.DType == tensor.F32 {
		for i := range x.F32() {
			x.F32()[i] = float32(r.NormFloat64())
		}
	}
	return x
}

// evaluate runs g on the reference backend, and returns all results and new states.
func evaluate(t checker, g *graph.Graph) map[string][]byte {
	t.Helper()
	ctx := context.Background()
	b, err := framework.Backends.Open("scalar")
	must(t, err)
	s, err := b.NewStore()
	must(t, err)
	for _, n := range g.States {
		must(t, s.Put(ctx, n.Name(), random(n.Name(), n.Out[0])))
	}
	var in, out []*tensor.Tensor
	for _, n := range g.Inputs {
		x := random(n.Name(), n.Out[0])
		if strings.HasPrefix(n.Name(), "c") && len(n.Out[0].Shape) == 0 { // 1-beta^t
			x.F32()[0] = 0.5
		}
		in = append(in, x)
	}
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
	}
	e, err := b.Compile(ctx, g)
	must(t, err)
	must(t, e.Run(ctx, s, in, out))
	all := map[string][]byte{}
	for i, o := range g.Outputs {
		all["output "+o.Name] = out[i].Data
	}
	for _, u := range g.Updates {
		v, err := s.Get(ctx, u.State.Name())
		must(t, err)
		all[u.State.Name()] = v.Data
	}
	must(t, e.Close())
	must(t, s.Close())
	must(t, b.Close())
	return all
}

// kernels are those of the ops of a training step.
func kernels() engine.Table {
	t := engine.Table{}
	linear.Add(t)
	attention.Add(t)
	rows.Add(t)
	return t
}

// lower lowers g as the engine does.
func lower(t checker, g *graph.Graph) *graph.Graph {
	t.Helper()
	table := kernels()
	low, err := compile.Lower(g, func(n *graph.Node) bool {
		for _, k := range table[n.Op] {
			if k.Supports == nil || k.Supports(n) {
				return true
			}
		}
		return fuse.Takes(n)
	})
	must(t, err)
	return low
}

// backend is one that stacks, or does not.
func backend(d *engine.Device, passes ...func(*graph.Graph) (*graph.Graph, error)) *engine.Backend {
	return engine.New(engine.Config{Name: "cuda", Device: d, Table: kernels(), Fuser: fuse.New(fuse.Options{}), Passes: passes})
}

// nano is the report's model and a step of it.
func nano(t testing.TB) (*model.Model, train.Recipe) {
	t.Helper()
	c, err := model.Preset("nano-125m")
	must(t, err)
	r, err := train.LookupRecipe("default")
	must(t, err)
	r.Batch, r.Accum, r.Window = 64, 1, 256
	return newModel(t, c), r
}

func newModel(t testing.TB, c model.Config) *model.Model {
	t.Helper()
	m, err := model.New(c)
	must(t, err)
	return m
}

// small is a model with matrices of three shapes, and a recipe that stacks them.
func small() (model.Config, train.Recipe) {
	c := model.Config{
		Tokenizer: "gpt2:320", Vocab: 320, Dim: 64, Layers: 2, Heads: 2, KVHeads: 2, FFN: 128, Context: 32,
		RoPETheta: 10000, NormEps: 1e-6, Quant: "ternary:group=32", Residual: "mhclite:streams=2", Head: "ternary",
	}
	r := train.Recipe{
		Steps: 20, Batch: 1, Accum: 1, Window: 16, Seed: 1, Optimizer: "muon",
		MatrixLR: 0.02, HeadLR: 0.004, OtherLR: 0.004, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Momentum: 0.95, MatrixDecay: 0.1,
		Clip: 1, Schedule: "wsd", Warmup: 2, Stable: 0.8, Floor: 0.1,
	}
	return c, r
}

// count counts the nodes of an op.
func count(g *graph.Graph, op string) (n int) {
	for _, m := range g.Nodes {
		if m.Op.Name == op {
			n++
		}
	}
	return n
}
