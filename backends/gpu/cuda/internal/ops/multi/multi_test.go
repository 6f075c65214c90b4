package multi_test

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fuse"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/multi"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/rows"
	_ "github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%+v", err)
	}
}

// optimizer adds steps of AdamW.
type optimizer struct {
	*graph.Builder
	clip, lr, c1, c2 graph.Value
}

func newOptimizer(b *graph.Builder) *optimizer {
	o := &optimizer{Builder: b, lr: b.Input("lr", tensor.F32), c1: b.Input("c1", tensor.F32), c2: b.Input("c2", tensor.F32)}
	norm := b.GlobalBuffer("norm", tensor.T(tensor.F32))
	o.clip = b.Min(b.Div(b.Like(norm, 0.5), norm), b.Like(norm, 1))
	return o
}

func (o *optimizer) grad(name string, dims ...int) graph.Value {
	return o.Mul(o.GlobalBuffer("g."+name, tensor.T(tensor.F32, dims...)), o.clip)
}

// step updates a parameter and its moments, and returns the new parameter.
func (o *optimizer) step(name string, g graph.Value, decay float64) graph.Value {
	t := g.Type()
	p, m, v := o.GlobalBuffer("p."+name, t), o.GlobalBuffer("m."+name, t), o.GlobalBuffer("v."+name, t)
	p2, m2, v2 := o.AdamW(p, g, m, v, o.lr, o.c1, o.c2, graph.AdamAttr{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: decay})
	o.Update(p, p2)
	o.Update(m, m2)
	o.Update(v, v2)
	return p2
}

// cases are graphs, with the steps of each node that is left, in order: 0 is a single
// one.
var cases = map[string]struct {
	build func(o *optimizer)
	want  []int
}{
	"sizes and shapes": {func(o *optimizer) {
		o.step("a", o.grad("a", 1), 0)
		o.step("b", o.grad("b", 2), 0)
		o.step("c", o.grad("c", 3, 5), 0)
		o.step("d", o.grad("d", 1024), 0)
		o.step("e", o.grad("e", 11, 1, 227), 0)
		o.step("f", o.grad("f"), 0)
	}, []int{6}},
	"one": {func(o *optimizer) { o.step("a", o.grad("a", 3), 0) }, []int{0}},
	"large ones": {func(o *optimizer) {
		o.step("a", o.grad("a", 3), 0)
		o.step("b", o.grad("b", 64<<10+1), 0)
		o.step("c", o.grad("c", 3), 0)
	}, []int{0, 2}},
	"other constants": {func(o *optimizer) {
		o.step("a", o.grad("a", 3), 0)
		o.step("b", o.grad("b", 3), 0.1)
		o.step("c", o.grad("c", 3), 0)
		o.step("d", o.grad("d", 3), 0.1)
	}, []int{2, 2}},
	"no clipping, or not alone": {func(o *optimizer) {
		free := func(name string) graph.Value { return o.GlobalBuffer("g."+name, tensor.T(tensor.F32, 4)) }
		o.step("a", free("a"), 0)
		o.step("b", free("b"), 0)
		clipped := o.grad("c", 4)
		o.Output("clipped", clipped)
		o.step("c", clipped, 0)
		o.step("d", o.Mul(free("d"), free("a")), 0)
	}, []int{4}},
	"gradients are cleared": {func(o *optimizer) {
		for _, name := range []string{"a", "b"} {
			o.step(name, o.grad(name, 3), 0)
			g := o.GlobalBuffer("g."+name, tensor.T(tensor.F32, 3))
			o.Update(g, o.Full(g, 0))
		}
	}, []int{2}},
	"new parameters are read": {func(o *optimizer) {
		next := o.step("a", o.grad("a", 3), 0)
		o.Output("y", o.Neg(next))
		o.step("b", o.grad("b", 3), 0)
		o.Output("z", next)
	}, []int{2}},
	"one depends on another": {func(o *optimizer) {
		next := o.step("a", o.grad("a", 3), 0)
		o.step("b", o.Mul(next, o.clip), 0)
		o.step("c", o.grad("c", 3), 0)
	}, []int{2, 0}},
}

func traced(t *testing.T, build func(o *optimizer)) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) { build(newOptimizer(b)) })
	must(t, err)
	return g
}

func TestSmallStepsBecomeOne(t *testing.T) {
	for name, c := range cases {
		g, err := multi.Join(traced(t, c.build))
		must(t, err)
		var got []int
		for _, n := range g.Nodes {
			switch n.Op.Name {
			case "multi.adamw":
				got = append(got, len(n.Out)/3)
			case "adamw":
				got = append(got, 0)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: steps %v, want %v", name, got, c.want)
		}
	}
}

// random is normal numbers, which are positive for second moments and scalars.
func random(name string, t tensor.Type) *tensor.Tensor {
	h := fnv.New64()
	h.Write([]byte(name))
	r, x := rand.New(rand.NewPCG(h.Sum64(), 7)), tensor.New(t)
	for i := range x.F32() {
		v := r.NormFloat64()
		if name[0] == 'v' || len(t.Shape) == 0 && name[1] != '.' {
			v = 0.1 + 0.4*math.Abs(v)
		}
		x.F32()[i] = float32(v)
	}
	return x
}

// run returns the results and new states of g.
func run(t *testing.T, b framework.Backend, g *graph.Graph) map[string]*tensor.Tensor {
	t.Helper()
	ctx := context.Background()
	s, err := b.NewStore()
	must(t, err)
	for _, n := range g.States {
		must(t, s.Put(ctx, n.Name(), random(n.Name(), n.Out[0])))
	}
	e, err := b.Compile(ctx, g)
	must(t, err)
	var in, out []*tensor.Tensor
	for _, n := range g.Inputs {
		in = append(in, random(n.Name(), n.Out[0]))
	}
	all := map[string]*tensor.Tensor{}
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
		all["output "+o.Name] = out[len(out)-1]
	}
	must(t, e.Run(ctx, s, in, out))
	for _, u := range g.Updates {
		x, err := s.Get(ctx, u.State.Name())
		must(t, err)
		all[u.State.Name()] = x
	}
	must(t, e.Close())
	must(t, s.Close())
	return all
}

func TestJoinedStepsHaveTheBitsOfSingleOnes(t *testing.T) {
	d := cudatest.Open(t, engine.F32)
	table := engine.Table{}
	rows.Add(table)
	multi.Add(table)
	backend := func(passes ...func(*graph.Graph) (*graph.Graph, error)) framework.Backend {
		return engine.New(engine.Config{Name: "cuda", Device: d, Table: table, Fuser: fuse.New(fuse.Options{}), Passes: passes})
	}
	scalar, err := framework.Backends.Open("scalar")
	must(t, err)
	for name, c := range cases {
		g := traced(t, c.build)
		single, joined, reference := run(t, backend(), g), run(t, backend(multi.Join), g), run(t, scalar, g)
		for state, want := range single {
			got := joined[state]
			if !bytes.Equal(got.Data, want.Data) {
				t.Errorf("%s: %s has other bits than that of a single step", name, state)
			}
			for i, v := range reference[state].F32() {
				if math.Abs(float64(got.F32()[i]-v)) > 1e-5*(1+math.Abs(float64(v))) {
					t.Fatalf("%s: %s[%d] is %v, of the reference %v", name, state, i, got.F32()[i], v)
				}
			}
		}
	}
}
