package compile_test

import (
	"context"
	"slices"
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/eval"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

// blocks is the gradient of some gated blocks between two streams, as in
// training.
func blocks(b *B) {
	s := in(b, "s", 6, 2, 8)
	pre, post, h := b.Param("pre", graph.Init{}, 2), b.Param("post", graph.Init{}, 2), b.Param("h", graph.Init{}, 2, 2)
	for _, name := range []string{"a", "b", "c"} {
		b.In(name, func() {
			x := b.RMSNorm(b.StreamRead(s, pre), b.Param("norm", graph.Init{}, 8), 1e-5)
			gate := b.MatMul(x, b.Param("gate", graph.Init{}, 12, 8), false, true)
			up := b.MatMul(x, b.Param("up", graph.Init{}, 12, 8), false, true)
			y := b.MatMul(b.SwiGLU(gate, up), b.Param("down", graph.Init{}, 8, 12), false, true)
			s = b.StreamWrite(s, y, h, post)
		})
	}
	loss := b.SumAll(b.Mul(s, s))
	b.Output("loss", loss)
	for i, g := range b.Gradients(loss, b.Params()) {
		b.Output("g."+b.Params()[i].N.Name(), g)
	}
}

func TestRecomputingSavesMemoryAndChangesNoBit(t *testing.T) {
	g := lower(t, everything, blocks)
	again, err := compile.Recompute(g, 0, 12)
	if err != nil {
		t.Fatal(err)
	}
	for op, want := range map[string]int{"rmsnorm": 6, "swiglu": 6, "streamread": 6, "matmul": count(g, "matmul")} {
		// The last block's backward pass follows its forward pass closely.
		if n := count(again, op); n > want || op != "matmul" && n < want-1 || op == "matmul" && n != want {
			t.Errorf("%d nodes of %s, want %d", n, op, want)
		}
	}
	was, is := compile.Place(g, 4, nil).Arena, compile.Place(again, 4, nil).Arena
	if is >= was {
		t.Errorf("the arena has %d bytes, %d without", is, was)
	}
	want, got := results(t, g), results(t, again)
	for i := range want {
		if !slices.Equal(want[i].Data, got[i].Data) {
			t.Errorf("output %s differs", g.Outputs[i].Name)
		}
	}
}

func TestNothingIsRecomputedForItsOperandsWouldHaveToStay(t *testing.T) {
	g := lower(t, everything, func(b *B) {
		x := in(b, "x", 4, 8)
		y := b.Exp(x) // dies in the norm
		n := b.RMSNorm(y, b.Param("w", graph.Init{}, 8), 1e-5)
		z := n
		for range 20 {
			z = b.Sin(z)
		}
		b.Output("z", b.Add(z, n))
	})
	again, err := compile.Recompute(g, 0, 5)
	if err != nil {
		t.Fatal(err)
	}
	if n := count(again, "rmsnorm"); n != 1 {
		t.Errorf("%d norms", n)
	}
}

func TestNothingIsRecomputedFromAStateThatChanges(t *testing.T) {
	g := lower(t, everything, func(b *B) {
		x := b.Param("x", graph.Init{}, 4, 8)
		n := b.RMSNorm(x, b.Param("w", graph.Init{}, 8), 1e-5)
		z := b.Sin(n)
		b.Update(x, b.Add(x, b.Like(x, 3)))
		for range 20 {
			z = b.Sin(z)
		}
		b.Output("z", b.Add(z, n))
	})
	again, err := compile.Recompute(g, 0, 5)
	if err != nil {
		t.Fatal(err)
	}
	if n := count(again, "rmsnorm"); n != 1 {
		t.Errorf("%d norms", n)
	}
}

// results runs g on drawn values.
func results(t *testing.T, g *graph.Graph) (out []*tensor.Tensor) {
	t.Helper()
	ctx, be := context.Background(), framework.Backend(eval.New())
	s, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	drawn := func(n *graph.Node) *tensor.Tensor {
		v := tensor.New(n.Out[0])
		if n.Out[0].DType == tensor.I32 {
			return v
		}
		rng.NewKey(1, n.Name()).FillNormal(v.F32(), 0, 1)
		return v
	}
	for _, n := range g.States {
		if err := s.Put(ctx, n.Name(), drawn(n)); err != nil {
			t.Fatal(err)
		}
	}
	var inputs []*tensor.Tensor
	for _, n := range g.Inputs {
		inputs = append(inputs, drawn(n))
	}
	for _, o := range g.Outputs {
		out = append(out, tensor.New(wide(o.Value.Type())))
	}
	exe, err := be.Compile(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	if err := exe.Run(ctx, s, inputs, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// wide is the type in which the interpreter takes and gives a value.
func wide(t tensor.Type) tensor.Type { return tensor.T(tensor.F64, t.Shape...) }
