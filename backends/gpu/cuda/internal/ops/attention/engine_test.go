package attention

import (
	"context"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// runOp runs one op on a backend that has this package's kernels alone.
func runOp(t *testing.T, op string, attr any, in ...operand) ([][]float64, error) {
	t.Helper()
	table := engine.Table{}
	Add(table)
	b := cudatest.Backend(cudatest.Open(t, engine.F32), table, nil)
	g, err := graph.Trace(func(b *graph.Builder) {
		var args []graph.Value
		for i, o := range in {
			args = append(args, b.Input(string(rune('a'+i)), o.t.DType, o.t.Shape...))
		}
		for i, v := range b.Apply(graph.Lookup(op), attr, args...) {
			b.Output(string(rune('y'+i)), v)
		}
	})
	must(t, err)
	var args, out []*tensor.Tensor
	for _, o := range in {
		args = append(args, &tensor.Tensor{Type: o.t, Data: encode(o.t.DType, o.v)})
	}
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
	}
	e, err := b.Compile(context.Background(), g)
	must(t, err)
	s, err := b.NewStore()
	must(t, err)
	err = e.Run(context.Background(), s, args, out)
	must(t, e.Close())
	must(t, s.Close())
	var all [][]float64
	for _, x := range out {
		all = append(all, x.Floats())
	}
	return all, err
}

func TestTheEngineRunsTheOps(t *testing.T) {
	d := dims{2, 3, 4, 24, 140, 2}
	types := d.types(f32, f32)
	values := func(ts []tensor.Type) (in []operand) {
		for i, typ := range ts {
			v := random(string(rune('a'+i)), typ.DType, typ.Shape.Numel())
			if typ.DType == tensor.I32 {
				v = []float64{137, 0}
			}
			in = append(in, operand{typ, v})
		}
		return in
	}
	x, rows := types[0], tensor.T(f32, 5, 33)
	turns := graph.RoPEAttr{Theta: 1e4}
	for _, c := range []struct {
		op    string
		attr  any
		types []tensor.Type
	}{
		{"attention", nil, types[:4]},
		{"attention", nil, d.types(f16, f16)[:4]},
		{"attention.vjp", nil, types},
		{"rope", turns, []tensor.Type{x, types[3]}},
		{"rope.vjp", turns, []tensor.Type{x, types[3], x}},
		{"softmax", nil, []tensor.Type{rows}},
		{"softmax.vjp", nil, []tensor.Type{rows, rows}},
	} {
		in := values(c.types)
		got, err := runOp(t, c.op, c.attr, in...)
		must(t, err)
		for i, want := range reference(t, c.op, c.attr, in...) {
			within(t, c.op, got[i], want, 1e-11)
		}
	}
}

func TestAPositionOutOfRangeIsAnErrorOfTheRun(t *testing.T) {
	d := dims{1, 3, 1, 8, 5, 1}
	var in []operand
	for _, typ := range d.types(f32, f32) {
		in = append(in, operand{typ, random("x", typ.DType, typ.Shape.Numel())})
	}
	in[3].v = []float64{3}
	for op, n := range map[string]int{"attention": 4, "attention.vjp": 5} {
		if _, err := runOp(t, op, nil, in[:n]...); !errors.Is(err, framework.ErrInput) {
			t.Errorf("%s at position 3 of 5 with 3 queries: %v", op, err)
		}
	}
}
