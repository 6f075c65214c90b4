package roofline_test

import (
	"math"
	"testing"
	"time"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/joined"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/roofline"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// The report's model takes 755 MFLOP for a token of training at a window of 256
// (docs/performance.md counts the same): a forward product in int8, two backward.
func TestATokenOfTrainingHasTheKnownOperations(t *testing.T) {
	c, err := model.Preset("nano-125m")
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.New(c)
	if err != nil {
		t.Fatal(err)
	}
	g, err := m.Accumulate(2, 256, 1)
	if err != nil {
		t.Fatal(err)
	}
	low, err := compile.Lower(g, func(*graph.Node) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	shared, err := quantized.Share(low)
	if err != nil {
		t.Fatal(err)
	}
	checkToken(t, low)
	checkToken(t, shared)
}

func checkToken(t *testing.T, g *graph.Graph) {
	t.Helper()
	var w roofline.Work
	for _, n := range g.Nodes {
		if n.IsState() || n.IsInput() || n.Op.View {
			continue
		}
		v := roofline.Of(n, true)
		if n.Op.Name == "attention.vjp" {
			v.BF16 = v.BF16 / 7 * 4 // what recomputes the forward is not counted there
		}
		w.Add(v)
	}
	perToken := float64(w.Int8+w.BF16+w.TF32+w.F32) / 512
	if math.Abs(perToken/755e6-1) > 0.01 {
		t.Errorf("%.1f MFLOP a token", perToken/1e6)
	}
	if ratio := float64(w.Int8) / float64(w.BF16); ratio < 0.45 || ratio > 0.5 {
		t.Errorf("%.3f of the operations of bf16 are in int8", ratio)
	}
}

// Joined nodes have the products of the single ones, and move less: neither what lies
// between them nor whole caches.
func TestJoinedNodesHaveTheProductsOfSingleOnes(t *testing.T) {
	c, err := model.Preset("nano-125m")
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, B := range []int{2, 64} {
		g, err := m.Step(B, 1, 1024, model.Pass{Packed: true, F16: true})
		if err != nil {
			t.Fatal(err)
		}
		low, err := compile.Lower(g, func(*graph.Node) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		few, err := joined.Join(low)
		if err != nil {
			t.Fatal(err)
		}
		single, one := total(low), total(few)
		if single.Int8 != one.Int8 || one.Int8 < int64(B)*200e6 {
			t.Errorf("%d sequences: %d operations in joined nodes, %d in single ones", B, one.Int8, single.Int8)
		}
		if one.Bytes >= single.Bytes || one.Bytes < single.Bytes*9/10 {
			t.Errorf("%d sequences: %d bytes in joined nodes, %d in single ones", B, one.Bytes, single.Bytes)
		}
	}
}

func total(g *graph.Graph) (w roofline.Work) {
	for _, n := range g.Nodes {
		if !n.IsState() && !n.IsInput() && !n.Op.View {
			w.Add(roofline.Of(n, true))
		}
	}
	return w
}

func TestTheFloorIsTheLongerOfTwoTimes(t *testing.T) {
	m := roofline.Machine{Bandwidth: 1e9, Int8: 1e12, BF16: 1e12, TF32: 1e12, F32: 1e10}
	for name, c := range map[string]struct {
		n    func(b *graph.Builder) graph.Value
		want time.Duration
	}{
		"a sum moves three arrays": {func(b *graph.Builder) graph.Value {
			return b.Add(b.Input("x", tensor.F32, 1000), b.Input("y", tensor.F32, 1000))
		}, 12 * time.Microsecond},
		"a large product computes": {func(b *graph.Builder) graph.Value {
			return b.MatMul(b.Input("x", tensor.F32, 1000, 1000), b.Input("y", tensor.F32, 1000, 1000), true, false)
		}, 200 * time.Millisecond},
		"a gather reads the rows that it gives": {func(b *graph.Builder) graph.Value {
			return b.Gather(b.Input("t", tensor.F32, 100000, 10), b.Input("i", tensor.I32, 50))
		}, 4200},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := graph.Trace(func(b *graph.Builder) { b.Output("z", c.n(b)) })
			if err != nil {
				t.Fatal(err)
			}
			if got := roofline.Of(g.Outputs[0].Value.N, false).Floor(m); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
