package quantized_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fuse"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/linear"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/rows"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// open opens a backend of the packages that this one rewrites for, with that or
// without.
func open(t *testing.T, p engine.Precision, shares bool, settings ...string) *engine.Backend {
	t.Helper()
	c := engine.Config{Name: "cuda", Device: cudatest.Open(t, p, settings...), Table: engine.Table{}, Fuser: fuse.New(fuse.Options{})}
	linear.Add(c.Table)
	rows.Add(c.Table)
	if shares {
		c.Passes = append(c.Passes, quantized.Share)
	}
	return engine.New(c)
}

// block is a gated layer between two norms with a head of V words, for N rows of K
// columns, F within, and the gradients of all of that.
type block struct{ N, K, F, V int }

func (s block) graph(t *testing.T) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) {
		var wrt []graph.Value
		float := func(name string, dims ...int) graph.Value {
			v := b.Input(name, tensor.F32, dims...)
			wrt = append(wrt, v)
			return v
		}
		weight := func(name string, m, k int) (w, codes, scales graph.Value) {
			return float(name, m, k), b.Input("codes."+name, tensor.U2, m, k), b.Input("scales."+name, tensor.F32, 1, 1)
		}
		layer := func(name string, x graph.Value, m int) graph.Value {
			w, codes, scales := weight(name, m, x.Dim(1))
			return b.BitLinear(x, w, codes, scales, ternary)
		}
		h := b.Gather(float("table", s.N, s.K), b.Input("ids", tensor.I32, s.N))
		x := b.RMSNorm(h, float("gain", s.K), 1e-6)
		y := layer("down", b.SwiGLU(layer("gate", x, s.F), layer("up", x, s.F)), s.K)
		w, codes, scales := weight("head", s.V, s.K)
		loss := b.BitLinearCrossEntropy(b.RMSNorm(b.Add(h, y), float("gain2", s.K), 1e-6), w, codes, scales, b.Input("targets", tensor.I32, s.N), ternary)
		b.Output("loss", loss)
		for i, d := range b.Gradients(b.SumAll(loss), wrt) {
			b.Output("d."+wrt[i].N.Name(), d)
		}
	})
	must(t, err)
	return g
}

// operands draws the inputs of g.
func operands(g *graph.Graph, seed uint64) (in []*tensor.Tensor) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, n := range g.Inputs {
		v := tensor.New(n.Out[0])
		switch v.DType {
		case tensor.F32:
			for i := range v.F32() {
				v.F32()[i] = tensor.BF16ToF32(tensor.F32ToBF16(float32(rng.NormFloat64())))
			}
			if v.Shape.Numel() == 1 {
				v.F32()[0] = 0.125
			}
		case tensor.I32: // rows in order, and words
			for i := range v.I32() {
				v.I32()[i] = int32(i % 5)
				if n.Name() == "ids" {
					v.I32()[i] = int32(i)
				}
			}
		default:
			for i := range v.Data {
				v.Data[i] = byte(rng.Uint32())
			}
		}
		in = append(in, v)
	}
	return in
}

func run(t *testing.T, be framework.Backend, g *graph.Graph, in []*tensor.Tensor) (out []*tensor.Tensor) {
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
	must(t, exec.Run(ctx, store, in, out))
	return out
}

// equal reports whether two numbers are the same, as zeros of either sign and all
// NaN are.
func equal(a, b float32) bool { return a == b || a != a && b != b }

func same(t *testing.T, name string, g *graph.Graph, got, want []*tensor.Tensor) {
	t.Helper()
	for i, w := range want {
		for j, v := range w.F32() {
			if !equal(got[i].F32()[j], v) {
				t.Fatalf("%s: element %d of %s is %v, want %v", name, j, g.Outputs[i].Name, got[i].F32()[j], v)
			}
		}
	}
}

// plan counts the nodes of each op.
func plan(t *testing.T, be *engine.Backend, g *graph.Graph) map[string]int {
	t.Helper()
	p, err := be.Plan(g)
	must(t, err)
	ops := map[string]int{}
	for _, n := range p.Graph.Nodes {
		ops[n.Op.Name]++
	}
	return ops
}

// normed and gated are what the kernels quantize, in float64.
func normed(x, gain []float32) []float64 {
	y, sum := make([]float64, len(x)), 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	for i, v := range x {
		y[i] = float64(v) / math.Sqrt(sum/float64(len(x))+1e-6) * float64(gain[i])
	}
	return y
}

func gated(gate, up []float32) []float64 {
	y := make([]float64, len(gate))
	for i, g := range gate {
		y[i] = float64(g) / (1 + math.Exp(-float64(g))) * float64(up[i])
	}
	return y
}

func plainly(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// A unit is the largest magnitude over 127, and NaN of a row that is not finite; a
// code is within half a unit of its number; columns that are padding are zero.
func TestCodesAreTheNearestToTheirNumbers(t *testing.T) {
	be := open(t, engine.F32, false)
	for _, k := range []int{36, 33, 96, 1028, 2051} {
		const n = 5
		g, err := graph.Trace(func(b *graph.Builder) {
			x, up, gain := b.Input("x", tensor.F32, n, k), b.Input("up", tensor.F32, n, k), b.Input("gain", tensor.F32, k)
			for i, made := range [][]graph.Value{
				b.Apply(quantized.Norm, graph.NormAttr{Eps: 1e-6}, x, gain), b.Apply(quantized.Gate, nil, x, up), b.Apply(quantized.Rows, nil, x),
			} {
				b.Output(fmt.Sprint("codes", i), made[0])
				b.Output(fmt.Sprint("unit", i), made[1])
			}
		})
		must(t, err)
		in := operands(g, uint64(k))
		x, up, gain := in[0].F32(), in[1].F32(), in[2].F32()
		x[2*k+1] = float32(math.Inf(1))
		clear(x[3*k : 4*k])
		out := run(t, be, g, in)
		for row := range n {
			own, other := x[row*k:(row+1)*k], up[row*k:(row+1)*k]
			for i, want := range [][]float64{normed(own, gain), gated(own, other), plainly(own)} {
				codes := out[2*i].I8()[row*quantized.Padded(k) : (row+1)*quantized.Padded(k)]
				if err := nearest(codes, float64(out[2*i+1].F32()[row]), want, row == 2); err != nil {
					t.Errorf("%d columns, op %d, row %d: %v", k, i, row, err)
				}
			}
		}
	}
}

func nearest(codes []int8, unit float64, want []float64, broken bool) error {
	top := 1e-8
	for _, v := range want {
		top = max(top, math.Abs(v))
	}
	switch {
	case broken && math.IsNaN(unit):
		return nil
	case broken || math.Abs(unit*127/top-1) > 1e-5:
		return fmt.Errorf("the unit is %v, the largest magnitude %v", unit, top)
	}
	for i, c := range codes {
		v := 0.0
		if i < len(want) {
			v = want[i] / unit
		}
		if math.Abs(float64(c)-v) > 0.501 || i >= len(want) && c != 0 {
			return fmt.Errorf("code %d is %d, the number %v", i, c, v)
		}
	}
	return nil
}

// With chunks of four and of one, in rows of a warp and of a block.
var blocks = []block{{9, 64, 96, 17}, {3, 36, 33, 5}, {40, 33, 36, 9}, {3, 8, 1028, 5}, {5, 5, 261, 5}}

func TestABlockOfSharedRowsHasTheSameBits(t *testing.T) {
	plain, shares := open(t, engine.F32, false), open(t, engine.F32, true)
	for i, s := range blocks {
		g := s.graph(t)
		in := operands(g, uint64(i))
		same(t, fmt.Sprint(s), g, run(t, shares, g, in), run(t, plain, g, in))
		ops := plan(t, shares, g)
		for op, want := range map[string]int{"rmsnorm.int8": 2, "swiglu.int8": 1, "bitlinear.int8": 3, "bitlinear.vjp.int8": 3, "bitlinearcrossentropy.joint.int8": 1} {
			if ops[op] != want {
				t.Errorf("%v: %d nodes of %s, want %d", s, ops[op], op, want)
			}
		}
		if ops["rmsnorm"]+ops["swiglu"]+ops["bitlinear"]+ops["bitlinear.vjp"] != 0 {
			t.Errorf("%v: nodes are %v", s, ops)
		}
	}
}

func TestOrderOfThreadsDoesNotShow(t *testing.T) {
	s := blocks[0]
	g := s.graph(t)
	in := operands(g, 0)
	want := run(t, open(t, engine.F32, true), g, in)
	for _, order := range []string{"reverse", "shuffle"} {
		same(t, order, g, run(t, open(t, engine.F32, true, "order="+order), g, in), want)
	}
}

// Rows that threads do not hold in their registers.
func TestLongRowsHaveTheSameBits(t *testing.T) {
	plain, shares := open(t, engine.F32, false), open(t, engine.F32, true)
	for _, k := range []int{2051, 8196} {
		g, err := graph.Trace(func(b *graph.Builder) {
			h := b.Gather(b.Input("table", tensor.F32, 3, k), b.Input("ids", tensor.I32, 3))
			norm := b.RMSNorm(h, b.Input("gain", tensor.F32, k), 1e-6)
			gate := b.SwiGLU(h, b.Neg(h))
			for i, x := range []graph.Value{norm, gate} {
				y := b.CodeBookMatMul(x, b.Input(fmt.Sprint("codes", i), tensor.U2, 2, k), b.Input(fmt.Sprint("scales", i), tensor.F32, 1, 1), ternary)
				b.Output(fmt.Sprint("y", i), y)
			}
		})
		must(t, err)
		in := operands(g, 1)
		same(t, fmt.Sprint(k), g, run(t, shares, g, in), run(t, plain, g, in))
		if ops := plan(t, shares, g); ops["rmsnorm.int8"] != 1 || ops["swiglu.int8"] != 1 {
			t.Errorf("nodes are %v", ops)
		}
	}
}

func TestRowsThatAreNotFiniteStayAlone(t *testing.T) {
	s := block{6, 36, 40, 7}
	g := s.graph(t)
	shares, in := open(t, engine.F32, true), operands(g, 3)
	clean := run(t, shares, g, in)[0].F32()
	for i, n := range g.Inputs {
		if n.Name() == "table" {
			for r, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
				in[i].F32()[(r+1)*s.K+r*17] = float32(bad)
			}
		}
	}
	for row, v := range run(t, shares, g, in)[0].F32() {
		want := clean[row]
		if 1 <= row && row <= 3 {
			want = float32(math.NaN())
		}
		if !equal(v, want) {
			t.Errorf("the loss of row %d is %v, want %v", row, v, want)
		}
	}
}

// distance is the normalized square of the difference from want.
func distance(got, want []float64) float64 {
	num, den := 0.0, 1e-6
	for i, v := range got {
		num += (v - want[i]) * (v - want[i])
		den += want[i] * want[i]
	}
	return num / den
}

// In bf16 what is quantized at once is rounded once less: results are about as far
// from those of the reference as without sharing, or nearer.
func TestSharingInBF16IsAsNearToTheReference(t *testing.T) {
	ref, err := scalar.Open(framework.Options{})
	must(t, err)
	g := block{96, 64, 96, 50}.graph(t) // large enough to be narrow
	in := operands(g, 5)
	want, plain, shared := run(t, ref, g, in), run(t, open(t, engine.BF16, false), g, in), run(t, open(t, engine.BF16, true), g, in)
	var before, after float64
	for i, o := range g.Outputs {
		b, a := distance(plain[i].Floats(), want[i].Floats()), distance(shared[i].Floats(), want[i].Floats())
		t.Logf("%s: %.1e, %.1e without sharing", o.Name, a, b)
		before, after = before+b, after+a
	}
	if after == before {
		t.Error("nothing is bf16")
	}
	if after > 1.2*before {
		t.Errorf("an error of %.2e, %.2e without sharing", after, before)
	}
}
