package linear_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/linear"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// sharing opens a backend with quantized.Share.
func sharing(t *testing.T, p engine.Precision) *engine.Backend {
	t.Helper()
	return engine.New(engine.Config{
		Name: "cuda", Device: cudatest.Open(t, p), Table: table(),
		Passes: []func(*graph.Graph) (*graph.Graph, error){quantized.Share},
	})
}

// twice applies u's op to the same rows twice, with other scales the second time:
// nodes that are equal would be one.
func (u use) twice(t *testing.T, scales int) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) {
		in := make([]graph.Value, len(u.in))
		for i, v := range u.in {
			in[i] = b.Input(string(rune('a'+i)), v.DType, v.Shape...)
		}
		for i := range 2 {
			for j, y := range b.Apply(u.op, u.attr, slices.Clone(in)...) {
				b.Output(fmt.Sprintf("%d.%d", i, j), y)
			}
			in[scales] = b.Neg(in[scales])
		}
	})
	must(t, err)
	return g
}

// planned counts the nodes of each op.
func planned(t *testing.T, be *engine.Backend, g *graph.Graph) map[string]int {
	t.Helper()
	p, err := be.Plan(g)
	must(t, err)
	ops := map[string]int{}
	for _, n := range p.Graph.Nodes {
		ops[n.Op.Name]++
	}
	return ops
}

// results runs g on the operands of u.
func (u use) results(t *testing.T, be framework.Backend, g *graph.Graph) (out []*tensor.Tensor) {
	t.Helper()
	ctx := context.Background()
	exec, err := be.Compile(ctx, g)
	must(t, err)
	defer exec.Close()
	store, err := be.NewStore()
	must(t, err)
	defer store.Close()
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
	}
	must(t, exec.Run(ctx, store, u.in, out))
	return out
}

// Rows that were quantized before, once for two readers, give what readers make that
// quantize for themselves: with every width of codes, in blocks of rows that begin
// within them, with columns that are padded, in every kernel.
func TestRowsQuantizedOnceGiveTheSameBits(t *testing.T) {
	defer linear.Limits(1<<10, 1<<12, 1<<12)()
	plain, shared := cuda(t, engine.F32), sharing(t, engine.F32)
	names := slices.Sorted(maps.Keys(books))
	count := 0
	for op, operands := range layerOps {
		for i, s := range append(slices.Clone(layerShapes), shape{3, 64, 5, 5, 2}, shape{130, 36, 9, 9, 1}) {
			if s.N <= quantized.OwnRows {
				continue
			}
			u := layer(op, operands, books[names[count%len(names)]], 8, s, uint64(i))
			count++
			g := u.twice(t, strings.Index(operands, "s"))
			want, got := u.results(t, plain, g), u.results(t, shared, g)
			if ops := planned(t, shared, g); ops["int8rows"] != 1 || ops[op+".int8"] != 2 || ops[op] != 0 {
				t.Errorf("%s %v: nodes are %v", op, s, ops)
			}
			for j := range want {
				same(t, fmt.Sprintf("%s %v, result %d", op, s, j), got[j].Floats(), want[j].Floats())
			}
		}
	}
}

// The gradient of a weight is of the rows as they were multiplied, and bf16 when
// that is the precision.
func TestRowsQuantizedOnceAreThoseOfTheReferenceInBF16(t *testing.T) {
	shared := sharing(t, engine.BF16)
	s := shape{70, 80, 67, 67, 1}
	u := layer("bitlinear.vjp", layerOps["bitlinear.vjp"], books["ternary"], 8, s, 1)
	g := u.twice(t, 3)
	if ops := planned(t, shared, g); ops["bitlinear.vjp.int8"] != 2 {
		t.Errorf("nodes are %v", ops)
	}
	got, want := u.results(t, shared, g), u.results(t, reference(t), g)
	for i := range got {
		num, den := 0.0, 1e-4
		w := want[i].Floats()
		for j, v := range got[i].Floats() {
			num, den = num+(v-w[j])*(v-w[j]), den+w[j]*w[j]
		}
		if num > bf16Bound*den {
			t.Errorf("result %d has an error of %.1e", i, num/den)
		}
	}
}

// A row that is not finite makes NaN of its own results alone, quantized before or not.
func TestSharedRowsThatAreNotFiniteStayAlone(t *testing.T) {
	plain, shared := cuda(t, engine.F32), sharing(t, engine.F32)
	u := layer("codebookmatmul", "xcs", books["ternary"], 8, shape{5, 64, 40, 40, 2}, 1)
	g := u.twice(t, 2)
	clean := u.results(t, plain, g)
	for i, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		u.in[0].F32()[(i+1)*64+i*7] = float32(bad)
	}
	got := u.results(t, shared, g)
	for i, v := range got[0].F32() {
		if row := i / 40; 1 <= row && row <= 3 {
			if !math.IsNaN(float64(v)) {
				t.Fatalf("row %d has %v", row, v)
			}
		} else if v != clean[0].F32()[i] {
			t.Fatalf("row %d: %v, was %v", row, v, clean[0].F32()[i])
		}
	}
}
