package host_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"

	_ "github.com/ternlm/tern/backends/all"
)

// A weight that is multiplied in two shapes has two packed layouts.
func TestViewsOfAWeightHaveLayoutsOfTheirOwn(t *testing.T) {
	g, err := graph.Trace(func(b *graph.Builder) {
		w := b.Param("w", graph.Init{}, 16, 32)
		b.Output("y", b.MatMul(b.Input("x", tensor.F32, 3, 32), w, false, true))
		b.Output("v", b.MatMul(b.Input("u", tensor.F32, 3, 16), b.Reshape(w, 32, 16), false, true))
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []*tensor.Tensor
	for _, name := range []string{"scalar", "avx2"} {
		be, err := framework.Backends.Open(name)
		if errors.Is(err, framework.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer be.Close()
		got := runOnRamps(t, be, g)
		if want == nil {
			want = got
			continue
		}
		for k := range want {
			for i, v := range want[k].F32() {
				if d := got[k].F32()[i] - v; d > 1e-3 || d < -1e-3 {
					t.Fatalf("output %d, element %d: %v, want %v", k, i, got[k].F32()[i], v)
				}
			}
		}
	}
}

// runOnRamps runs g with ramps for its state and its inputs.
func runOnRamps(t *testing.T, be framework.Backend, g *graph.Graph) (out []*tensor.Tensor) {
	t.Helper()
	ctx := context.Background()
	ramp := func(typ tensor.Type) *tensor.Tensor {
		r := tensor.New(typ)
		for i := range r.F32() {
			r.F32()[i] = float32(i%7) - 3 + float32(i)/100
		}
		return r
	}
	s, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range g.States {
		if err := s.Put(ctx, n.Name(), ramp(n.Out[0])); err != nil {
			t.Fatal(err)
		}
	}
	var in []*tensor.Tensor
	for _, n := range g.Inputs {
		in = append(in, ramp(n.Out[0]))
	}
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
	}
	exe, err := be.Compile(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	if err := exe.Run(ctx, s, in, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A step that adds states to the store, as the first optimizer step does, does
// not make other executables bind, and take their memory, again.
func TestNewStatesLeaveBindingsAlone(t *testing.T) {
	ctx := context.Background()
	be := scalar.Open64(1)
	defer be.Close()
	s, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	compile := func(name string) framework.Executable {
		g, err := graph.Trace(func(b *graph.Builder) {
			x := b.Buffer(name, tensor.T(tensor.F32, 1000))
			b.Update(x, b.Add(x, b.Like(x, 1)))
		})
		if err != nil {
			t.Fatal(err)
		}
		exe, err := be.Compile(ctx, g)
		if err != nil {
			t.Fatal(err)
		}
		return exe
	}
	a, b := compile("a"), compile("b")
	run := func(exe framework.Executable) func() {
		return func() {
			if err := exe.Run(ctx, s, nil, nil); err != nil {
				t.Error(err)
			}
		}
	}
	run(a)()
	run(b)() // adds the state b
	if n := testing.AllocsPerRun(1, run(a)); n > 0 {
		t.Errorf("%v allocations after another executable has added a state", n)
	}
}
