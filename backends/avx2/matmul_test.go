package avx2_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/ternlm/tern/backends/avx2"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

// Gram matrices, of which half is computed, against the same products of two
// inputs that only happen to be equal.
func TestGramMatricesHaveTheBitsOfWholeProducts(t *testing.T) {
	ctx := context.Background()
	be, err := avx2.Open(framework.Options{})
	if errors.Is(err, framework.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	const m, k = 203, 77
	g, err := graph.Trace(func(b *graph.Builder) {
		x, y := b.Input("x", tensor.F32, m, k), b.Input("y", tensor.F32, m, k)
		gram, same := b.MatMul(x, x, false, true), b.MatMul(x, y, false, true)
		b.Output("gram", gram)
		b.Output("same", same)
		b.Output("square", b.MatMul(gram, gram, false, false))
		b.Output("samesquare", b.MatMul(gram, same, false, false))
		b.Output("tallgram", b.MatMul(x, x, true, false))
		b.Output("sametall", b.MatMul(x, y, true, false))
	})
	if err != nil {
		t.Fatal(err)
	}
	exe, err := be.Compile(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	store, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	x := tensor.New(tensor.T(tensor.F32, m, k))
	rng.NewKey(1, "x").FillNormal(x.F32(), 0, 1)
	var out []*tensor.Tensor
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
	}
	if err := exe.Run(ctx, store, []*tensor.Tensor{x, x}, out); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(out); i += 2 {
		for j, v := range out[i+1].F32() {
			if got := out[i].F32()[j]; math.Float32bits(got) != math.Float32bits(v) {
				t.Fatalf("%s: element %d is %v, want %v", g.Outputs[i].Name, j, got, v)
			}
		}
	}
}
