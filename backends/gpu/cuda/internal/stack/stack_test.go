package stack_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/stack"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/train"
)

// compare runs g and its stacked form, whose bits must be the same.
func compare(t checker, g *graph.Graph) *graph.Graph {
	t.Helper()
	after, err := stack.Stack(g)
	must(t, err)
	want, got := evaluate(t, g), evaluate(t, after)
	if len(got) != len(want) {
		t.Fatalf("%d results and states, want %d", len(got), len(want))
	}
	for name, x := range want {
		if !bytes.Equal(got[name], x) {
			t.Fatalf("%s has other bits\nbefore:\n%s\nafter:\n%s", name, g, after)
		}
	}
	return after
}

// traced is the graph of some members, each built with its number.
func traced(t checker, members int, build func(b *graph.Builder, i int)) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) {
		for i := range members {
			build(b, i)
		}
	})
	must(t, err)
	return g
}

func matrix(b *graph.Builder, i, rows, cols int) graph.Value {
	return b.GlobalBuffer(fmt.Sprint("x", i), tensor.T(tensor.F32, rows, cols))
}

// What is stacked, and what is left alone, by how many products are left of how many
// members.
func TestEqualComputationsBecomeOne(t *testing.T) {
	square := func(b *graph.Builder, x graph.Value) graph.Value { return b.MatMul(x, x, false, false) }
	before := map[*graph.Builder]graph.Value{}
	for name, c := range map[string]struct {
		members, want int
		build         func(b *graph.Builder, i int)
	}{
		"products of each": {5, 2, func(b *graph.Builder, i int) {
			x := matrix(b, i, 6, 6)
			b.Output(fmt.Sprint("y", i), square(b, b.Neg(square(b, x))))
		}},
		"one member": {1, 2, func(b *graph.Builder, i int) {
			x := matrix(b, i, 6, 6)
			b.Output(fmt.Sprint("y", i), square(b, b.Neg(square(b, x))))
		}},
		"two shapes": {4, 2, func(b *graph.Builder, i int) {
			b.Output(fmt.Sprint("y", i), square(b, matrix(b, i, 6+i%2, 6+i%2)))
		}},
		"two constants": {4, 4, func(b *graph.Builder, i int) {
			b.Output(fmt.Sprint("y", i), square(b, b.Scale(square(b, matrix(b, i, 6, 6)), float64(i%2))))
		}},
		"an operand that all share": {3, 2, func(b *graph.Builder, i int) {
			w, s := b.GlobalBuffer("w", tensor.T(tensor.F32, 6, 6)), b.GlobalBuffer("s", tensor.T(tensor.F32, 1, 6))
			b.Output(fmt.Sprint("y", i), b.MatMul(b.Add(b.MatMul(w, matrix(b, i, 6, 6), true, false), s), w, false, true))
		}},
		"values between products that others read": {3, 2, func(b *graph.Builder, i int) {
			x := matrix(b, i, 6, 6)
			y := square(b, x)
			b.Update(x, y)
			b.Output(fmt.Sprint("y", i), b.Neg(y))
			b.Output(fmt.Sprint("z", i), square(b, y))
		}},
		"one after another": {3, 3, func(b *graph.Builder, i int) {
			x := before[b]
			if i == 0 {
				x = matrix(b, 0, 6, 6)
			}
			before[b] = square(b, x)
			b.Output(fmt.Sprint("y", i), before[b])
		}},
		"products that fill the device": {2, 2, func(b *graph.Builder, i int) {
			b.Output(fmt.Sprint("y", i), b.MatMul(matrix(b, i, 528*128, 1), b.GlobalBuffer("w", tensor.T(tensor.F32, 1, 1)), false, false))
		}},
		"operands that cost more than a launch": {2, 2, func(b *graph.Builder, i int) {
			b.Output(fmt.Sprint("y", i), b.MatMul(matrix(b, i, 700000, 1), matrix(b, i, 700000, 1), true, false))
		}},
		"no values but f32 cross the border": {2, 4, func(b *graph.Builder, i int) {
			y := square(b, matrix(b, i, 6, 6))
			z := b.Cast(y, tensor.F16)
			b.Output(fmt.Sprint("z", i), z)
			b.Output(fmt.Sprint("y", i), square(b, b.Cast(z, tensor.F32)))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := traced(t, c.members, c.build)
			if got := count(compare(t, g), "matmul"); got != c.want {
				t.Errorf("%d products of %d are left, want %d", got, count(g, "matmul"), c.want)
			}
		})
	}
}

// step is what a member of a random graph does, equal for all of them.
type step struct {
	op       string
	i, j, k  int
	constant float64
	flag     bool
}

// maker builds a member of a random graph: matrices, each made of those before it.
type maker struct {
	b      *graph.Builder
	pool   []graph.Value // of a member
	shared []graph.Value
}

func (m *maker) at(i int) graph.Value { return m.pool[i%len(m.pool)] }

// like is a value of the shape of x, which may be one that all members read.
func (m *maker) like(x graph.Value, i int) graph.Value {
	all := slices.Concat(m.pool, m.shared)
	for k := range all {
		y := all[(i+k)%len(all)]
		if y.Shape().Equal(x.Shape()) {
			return y
		}
	}
	return x
}

func (m *maker) step(s step) {
	b, x := m.b, m.at(s.i)
	r, c := x.Dim(0), x.Dim(1)
	var v graph.Value
	switch s.op {
	case "gram":
		v = b.MatMul(x, m.like(x, s.j), s.flag, !s.flag)
	case "product":
		y := m.at(s.j)
		if y.Dim(0) != c {
			y = b.GlobalBuffer(fmt.Sprintf("w%d", c), tensor.T(tensor.F32, c, 3))
		}
		v = b.MatMul(x, y, false, false)
	case "unary":
		v = []func(graph.Value) graph.Value{b.Neg, b.Abs, b.Sigmoid, b.Round, b.Sqrt}[s.k%5](x)
	case "scale":
		v = b.Scale(x, s.constant)
	case "binary":
		v = []func(x, y graph.Value) graph.Value{b.Add, b.Sub, b.Mul, b.Max, b.Div}[s.k%5](x, m.like(x, s.j))
	case "norm":
		v = b.Div(x, b.Add(b.Sqrt(b.SumAll(b.Mul(x, x))), b.Const(1e-3, tensor.T(tensor.F32))))
	case "rows":
		v = b.Sub(x, b.AMax(x, s.k%2))
	case "mean":
		v = b.Broadcast(b.Mean(x, s.k%2), tensor.Shape{r, c})
	case "where":
		v = b.Where(b.Less(x, m.like(x, s.j)), x, b.Like(x, s.constant))
	case "transpose":
		v = b.Transpose(x, 1, 0)
	case "slice":
		v = b.Pad(b.Slice(x, s.k%2, 0, 1), s.k%2, x.Dim(s.k%2)-1, 0)
	case "concat":
		v = b.Slice(b.Concat(s.k%2, x, m.like(x, s.j)), s.k%2, 1, 1+x.Dim(s.k%2))
	case "reshape":
		v = b.Reshape(b.Exp(b.Reshape(b.Min(x, b.Like(x, 2)), r*c)), r, c)
	case "half":
		v = b.Cast(b.Cast(x, tensor.F16), tensor.F32)
	}
	m.pool = append(m.pool, v)
}

// TestStackedGraphsHaveTheSameBits holds random graphs against themselves.
func TestStackedGraphsHaveTheSameBits(t *testing.T) {
	fewer, all := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) step {
			return step{
				op: rapid.SampledFrom([]string{
					"gram", "gram", "product", "product", "unary", "scale", "binary", "norm", "rows", "mean", "where", "transpose", "slice", "concat", "reshape", "half",
				}).Draw(r, "op"),
				i: rapid.IntRange(0, 20).Draw(r, "i"), j: rapid.IntRange(0, 20).Draw(r, "j"), k: rapid.IntRange(0, 20).Draw(r, "k"),
				constant: rapid.Float64Range(-2, 2).Draw(r, "c"), flag: rapid.Bool().Draw(r, "flag"),
			}
		}), 1, 14).Draw(r, "steps")
		members := rapid.IntRange(2, 5).Draw(r, "members")
		odd := rapid.IntRange(-1, members-1).Draw(r, "odd")
		reader := rapid.IntRange(-2, 4).Draw(r, "reader")
		rows, cols := rapid.IntRange(1, 4).Draw(r, "rows"), rapid.IntRange(1, 4).Draw(r, "cols")
		var last []graph.Value
		g := traced(r, members, func(b *graph.Builder, i int) {
			x := matrix(b, i, rows, cols)
			m := &maker{b: b, pool: []graph.Value{x, b.Input(fmt.Sprint("g", i), tensor.F32, rows, cols)}}
			m.shared = []graph.Value{b.GlobalBuffer("shared", tensor.T(tensor.F32, rows, cols))}
			if i == reader && i > 0 && last[0].Shape().Equal(x.Shape()) { // one member reads another
				m.pool[0] = last[0]
			}
			for k, s := range steps {
				if i == odd && k == len(steps)/2 {
					s.op = "scale"
				}
				m.step(s)
			}
			last = m.pool[max(0, len(m.pool)-2):]
			for k, v := range last {
				b.Output(fmt.Sprintf("y%d.%d", i, k), b.Neg(v))
			}
			for _, v := range m.pool[2:] {
				if v.Shape().Equal(x.Shape()) && i%2 == 0 {
					b.Update(x, v)
					break
				}
			}
		})
		after := compare(r, g)
		if all++; count(after, "matmul") < count(g, "matmul") {
			fewer++
		}
	})
	t.Logf("of %d graphs %d were stacked", all, fewer)
	if fewer < all/4 {
		t.Errorf("of %d graphs only %d were stacked", all, fewer)
	}
}

// The optimizer of a small model, by the reference backend.
func TestTheOptimizerHasTheSameBits(t *testing.T) {
	for _, quant := range []string{"ternary:group=32", "none"} {
		c, r := small()
		c.Quant = quant
		if quant == "none" {
			c.Head, r.MatrixDecay, r.Accum = "f16", 0, 2 // gradients are cleared
		}
		g, err := train.Apply(newModel(t, c), r)
		must(t, err)
		g = lower(t, g)
		after := compare(t, g)
		// Three shapes with fifteen products each.
		if count(g, "matmul") != 14*15 || count(after, "matmul") != 3*15 {
			t.Errorf("%s: of %d products %d are left, want 45 of 210", quant, count(g, "matmul"), count(after, "matmul"))
		}
	}
}

// Training and decoding have nothing to stack: their graphs are left as they are.
func TestOtherGraphsAreLeftAlone(t *testing.T) {
	for _, quant := range []string{"ternary:group=128", "none"} {
		m, _ := nano(t)
		c := m.Config
		c.Quant = quant
		if quant == "none" {
			c.Head = "f16"
		}
		m = newModel(t, c)
		graphs := map[string]func() (*graph.Graph, error){
			"training": func() (*graph.Graph, error) { return m.Accumulate(8, 256, 1) },
			"decoding": func() (*graph.Graph, error) { return m.Step(1, 1, 128, modelfile.Pass) },
			"prompt":   func() (*graph.Graph, error) { return m.Step(1, 64, 128, modelfile.Pass) },
		}
		for name, build := range graphs {
			g, err := build()
			must(t, err)
			g = lower(t, g)
			if after, err := stack.Stack(g); err != nil || after != g {
				t.Errorf("%s of a model of %s: %d nodes became %d (%v)", name, quant, len(g.Nodes), len(after.Nodes), err)
			}
		}
	}
}

func BenchmarkStack(b *testing.B) {
	m, r := nano(b)
	g, err := train.Apply(m, r)
	must(b, err)
	g = lower(b, g)
	for b.Loop() {
		if _, err := stack.Stack(g); err != nil {
			b.Fatal(err)
		}
	}
}
