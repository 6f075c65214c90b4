package fuse

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// sample is a small graph.
type sample struct {
	name  string
	bound float64 // of the error, as backendtest has it
	build func(b *graph.Builder) []graph.Value
}

func in(b *graph.Builder, name string, dims ...int) graph.Value {
	return b.Input(name, tensor.F32, dims...)
}

// samples has every primitive, alone and in chains, at sizes of all kinds.
func samples() []sample {
	var all []sample
	add := func(name string, bound float64, build func(b *graph.Builder) []graph.Value) {
		all = append(all, sample{name, bound, build})
	}
	one := func(name string, bound float64, build func(b *graph.Builder, x graph.Value) graph.Value, dims ...int) {
		add(fmt.Sprint(name, dims), bound, func(b *graph.Builder) []graph.Value { return []graph.Value{build(b, in(b, "x", dims...))} })
	}
	for _, name := range []string{"neg", "exp", "log", "sqrt", "rsqrt", "sin", "cos", "abs", "sigmoid", "round"} {
		op := func(b *graph.Builder, x graph.Value) graph.Value { return b.Apply(graph.Lookup(name), nil, x)[0] }
		one(name, 1e-12, op, 12)
		one(name, 1e-12, op, 7)
	}
	for _, name := range []string{"add", "sub", "mul", "div", "max", "min", "less", "equal"} {
		for _, s := range [][2][]int{{{3, 4}, {3, 4}}, {{3, 4}, {1, 4}}, {{3, 1}, {3, 8}}, {{5, 1}, {1, 7}}, {{1, 1}, {3, 3}}, {nil, nil}, {{2, 1, 4}, {2, 3, 1}}} {
			add(fmt.Sprint(name, s), 1e-13, func(b *graph.Builder) []graph.Value {
				return b.Apply(graph.Lookup(name), nil, in(b, "x", s[0]...), in(b, "y", s[1]...))
			})
		}
	}
	moveSamples(add, one)
	reduceSamples(add, one)
	chainSamples(add, one)
	return all
}

type (
	addFn func(string, float64, func(b *graph.Builder) []graph.Value)
	oneFn func(string, float64, func(b *graph.Builder, x graph.Value) graph.Value, ...int)
)

func moveSamples(add addFn, one oneFn) {
	one("scale", 1e-13, func(b *graph.Builder, x graph.Value) graph.Value { return b.Scale(x, -0.3) }, 3, 5)
	one("transpose", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Transpose(x, 1, 0) }, 5, 8)
	one("transpose", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Transpose(x, 2, 0, 1) }, 2, 3, 4)
	one("transpose", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Transpose(x, 0, 2, 1, 3) }, 2, 3, 5, 4)
	one("slice", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Slice(x, 1, 1, 2) }, 5, 3, 8)
	one("slice", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Slice(x, 0, 2, 5) }, 6, 3)
	one("slice", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Slice(x, 1, 4, 12) }, 3, 16)
	one("slice", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Slice(x, 1, 0, 4) }, 3, 10)
	one("slice", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Slice(x, 1, 2, 10) }, 3, 12)
	one("pad", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Pad(x, 1, 4, 8) }, 3, 4)
	one("pad", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Pad(x, 0, 1, 2) }, 2, 3, 4)
	one("pad", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Pad(b.Pad(x, 0, 1, 0), 1, 1, 2) }, 2, 3)
	one("broadcast", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Broadcast(x, tensor.Shape{3, 5, 4}) }, 3, 1, 4)
	one("concat", 0, func(b *graph.Builder, x graph.Value) graph.Value { return b.Concat(1, x, x) }, 3, 1, 8)
	add("concat", 0, func(b *graph.Builder) []graph.Value {
		return []graph.Value{b.Concat(1, in(b, "x", 2, 3), in(b, "y", 2, 1), in(b, "z", 2, 4))}
	})
	add("concat of many", 0, func(b *graph.Builder) []graph.Value {
		var parts []graph.Value
		for i := range 450 { // more than a kernel of its own has arguments for
			parts = append(parts, in(b, fmt.Sprint("x", i), 2))
		}
		return []graph.Value{b.Concat(0, parts...)}
	})
	add("constants", 0, func(b *graph.Builder) []graph.Value {
		long := make([]float64, 300)
		for i := range long {
			long[i] = float64(i) / 8
		}
		return []graph.Value{b.Const(-3, tensor.T(tensor.I32, 7)), b.Const(2.5, tensor.T(tensor.F32, 2, 2)), b.ConstList([]float64{1, -2, 0.5}, 3), b.Iota(9), b.ConstList(long, 300)}
	})
	add("where", 0, func(b *graph.Builder) []graph.Value {
		c := b.Input("c", tensor.Bool, 3, 4)
		return []graph.Value{b.Where(c, in(b, "x", 3, 4), in(b, "y", 1, 4)), b.Transpose(c, 1, 0), b.Cast(c, tensor.F32)}
	})
	for _, d := range []tensor.DType{tensor.F16, tensor.BF16} {
		add("cast "+d.String(), 0, func(b *graph.Builder) []graph.Value {
			x, y := b.Input("x", d, 3, 4), in(b, "y", 5)
			return []graph.Value{b.Cast(x, tensor.F32), b.Transpose(x, 1, 0), b.Cast(y, d), b.Scale(b.Cast(b.Cast(y, d), tensor.F32), 1)}
		})
	}
	add("integers", 0, func(b *graph.Builder) []graph.Value {
		x, y := b.Input("x", tensor.I32, 3, 4), b.Input("y", tensor.I8, 3, 4)
		return []graph.Value{b.Transpose(x, 1, 0), b.Transpose(y, 1, 0), b.Cast(b.Transpose(x, 1, 0), tensor.F32)}
	})
}

func reduceSamples(add addFn, one oneFn) {
	for _, op := range []struct {
		name string
		make func(*graph.Builder, graph.Value, int) graph.Value
	}{{"sum", (*graph.Builder).Sum}, {"amax", (*graph.Builder).AMax}} {
		reduce := func(axis int, dims ...int) {
			bound := 0.0
			if op.name == "sum" {
				bound = 1e-11
			}
			one(fmt.Sprint(op.name, axis), bound, func(b *graph.Builder, x graph.Value) graph.Value { return op.make(b, x, axis) }, dims...)
		}
		reduce(0, 1)
		reduce(0, 5)
		reduce(1, 3, 6)
		reduce(1, 5, 64)
		reduce(1, 3, 131)
		reduce(1, 2, 2500)
		reduce(0, 9, 8)
		reduce(0, 9, 7)
		reduce(1, 3, 5, 4)
		reduce(1, 3, 5, 3)
		reduce(2, 2, 1, 1)
		reduce(1, 3, 1, 2)
		reduce(0, 40000)   // in parts
		reduce(0, 3000, 2) // in parts
		reduce(1, 2, 700, 4)
	}
	add("sum of all", 1e-11, func(b *graph.Builder) []graph.Value {
		x := in(b, "x", 30, 1100)
		return []graph.Value{b.SumAll(b.Mul(x, x))}
	})
}

func chainSamples(add addFn, one oneFn) {
	one("softmax", 1e-10, func(b *graph.Builder, x graph.Value) graph.Value {
		e := b.Exp(b.Sub(x, b.AMax(x, 1)))
		return b.Div(e, b.Sum(e, 1))
	}, 5, 36)
	one("softmax", 1e-10, func(b *graph.Builder, x graph.Value) graph.Value {
		e := b.Exp(b.Sub(x, b.AMax(x, 1)))
		return b.Div(e, b.Sum(e, 1))
	}, 3, 33)
	one("softmax of columns", 1e-10, func(b *graph.Builder, x graph.Value) graph.Value {
		e := b.Exp(b.Sub(x, b.AMax(x, 1)))
		return b.Div(e, b.Sum(e, 1))
	}, 2, 9, 4)
	add("absmean", 1e-10, func(b *graph.Builder) []graph.Value {
		x := b.Reshape(in(b, "x", 6, 256), 6, 2, 128)
		s := b.Max(b.Scale(b.Sum(b.Abs(x), 2), 1.0/128), b.Const(1e-8, tensor.T(tensor.F32, 1, 1, 1)))
		s = b.Cast(b.Cast(s, tensor.F16), tensor.F32)
		q := b.Min(b.Max(b.Round(b.Div(x, s)), b.Like(x, -1)), b.Like(x, 1))
		return []graph.Value{b.Reshape(q, 6, 256), b.Reshape(s, 6, 2)}
	})
	add("norm by the sum of all", 1e-10, func(b *graph.Builder) []graph.Value {
		x := in(b, "x", 30, 300)
		return []graph.Value{b.Div(x, b.Reshape(b.Sqrt(b.SumAll(b.Mul(x, x))), 1, 1))}
	})
	add("momentum", 1e-11, func(b *graph.Builder) []graph.Value {
		m, g := in(b, "m", 6, 10), in(b, "g", 6, 10)
		m = b.Add(b.Scale(m, 0.9), g)
		return []graph.Value{m, b.Add(g, b.Scale(m, 0.9))}
	})
	add("mixing of two streams", 1e-11, func(b *graph.Builder) []graph.Value {
		s := b.Sigmoid(in(b, "x", 1))
		r := b.Sub(b.Like(s, 1), s)
		return []graph.Value{b.Concat(0, s, r, r, s), s, b.Mul(s, r)}
	})
	add("streams", 1e-11, func(b *graph.Builder) []graph.Value {
		x := b.Reshape(b.Exp(in(b, "x", 6, 8)), 6, 1, 8)
		y := b.Concat(1, x, b.Neg(x))
		return []graph.Value{y, b.Sum(y, 1), b.Slice(y, 1, 1, 2)}
	})
	add("a diamond", 1e-11, func(b *graph.Builder) []graph.Value {
		p := b.Exp(in(b, "x", 3, 4))
		return []graph.Value{b.Add(b.Neg(p), b.Sqrt(p))}
	})
	add("padded rows", 1e-11, func(b *graph.Builder) []graph.Value {
		x := in(b, "x", 3, 4)
		y := b.Pad(b.Log(b.Abs(x)), 1, 2, 1)
		return []graph.Value{b.Sum(y, 1), b.Sum(b.Transpose(y, 1, 0), 1)}
	})
	add("all but one row", 1e-11, func(b *graph.Builder) []graph.Value {
		x := in(b, "x", 4, 1)
		return []graph.Value{b.Div(x, b.Sum(x, 1)), b.Sum(b.Mul(x, b.AMax(x, 1)), 0)}
	})
}

func (s sample) graph(t checker) *graph.Graph {
	return trace(t, func(b *graph.Builder) {
		for i, v := range s.build(b) {
			b.Output(fmt.Sprint("y", i), v)
		}
	})
}

// Both ways to run a chain agree with float64 arithmetic, and with each other to
// the bit.
func TestChainsComputeWhatTheReferenceDoes(t *testing.T) {
	r := newRig(t)
	tape, own := New(Options{}), New(Options{Generate: true})
	var graphs []*graph.Graph
	for _, s := range samples() {
		graphs = append(graphs, fused(t, s.graph(t)))
	}
	r.compileAll(t, own, graphs...)
	for i, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			g := s.graph(t)
			in := fill(g, uint64(i), false)
			want := reference(t, r.alone, g, in)
			got, same := r.run(t, tape, graphs[i], in), r.run(t, own, graphs[i], in)
			for k := range want {
				if e := nmse(got[k], want[k]); e > s.bound {
					t.Errorf("result %d: NMSE %.1e, wants %.0e\n%v\n%v\n%v", k, e, s.bound, graphs[i], floats(got[k]), floats(want[k]))
				}
				if !bytes.Equal(got[k].Data, same[k].Data) {
					t.Errorf("result %d: the interpreter and the kernel differ\n%v\n%v\n%v", k, graphs[i], floats(got[k]), floats(same[k]))
				}
			}
		})
	}
}

// The order in which blocks and threads run is nothing to the result.
func TestTheOrderOfThreadsDoesNotMatter(t *testing.T) {
	first := map[int][]*tensor.Tensor{}
	for _, order := range []string{"", "reverse", "shuffle"} {
		r, tape := newRig(t, "order="+order), New(Options{})
		for i, s := range samples() {
			g := s.graph(t)
			if i%5 > 0 && len(g.Outputs) == 1 || len(g.Inputs) > 8 {
				continue
			}
			for k, got := range r.run(t, tape, fused(t, g), fill(g, 1, false)) {
				if order == "" {
					first[i] = append(first[i], got)
				} else if !bytes.Equal(got.Data, first[i][k].Data) {
					t.Errorf("%s, order %s: %v, was %v", s.name, order, floats(got), floats(first[i][k]))
				}
			}
		}
	}
}

// special is a NaN, infinities, zeros of both signs, and others.
var special = []float32{
	float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1)), 1, -1, 1000, -1000,
	math.MaxFloat32, -math.MaxFloat32, 0x1p-126, 3.5, -0.25,
}

func TestNaNAndInfinityAreWhatTheyAreInFloat32(t *testing.T) {
	r := newRig(t)
	single, err := scalar.Open(framework.Options{})
	must(t, err)
	var x, y []float32
	for _, a := range special {
		for _, b := range special {
			x, y = append(x, a), append(y, b)
		}
	}
	in := []*tensor.Tensor{tensor.FromF32(x, len(x)), tensor.FromF32(y, len(y))}
	g := trace(t, func(b *graph.Builder) {
		x, y := b.Input("x", tensor.F32, len(x)), b.Input("y", tensor.F32, len(x))
		for name, o := range operations {
			args := []graph.Value{x, y}[:graph.Lookup(name).Arity]
			v := b.Apply(graph.Lookup(name), nil, args...)[0]
			if o.boolean {
				v = b.Cast(v, tensor.F32)
			}
			b.Output(name, v)
		}
		n := len(special)
		b.Output("sum", b.Sum(b.Reshape(y, n, n), 0))
		b.Output("amax", b.AMax(b.Reshape(x, n, n), 1))
		b.Output("amax.columns", b.AMax(b.Reshape(y, n, n), 0))
		b.Output("f16", b.Cast(x, tensor.F16))
		b.Output("bf16", b.Cast(x, tensor.BF16))
	})
	h := fused(t, g)
	want, got := reference(t, single, g, in), r.run(t, New(Options{}), h, in)
	for k, o := range g.Outputs {
		w, v := floats(want[k]), floats(got[k])
		for i := range w {
			if kind(v[i]) != kind(w[i]) {
				t.Errorf("%s, element %d (%v, %v): %v, wants %v", o.Name, i, x[i], y[i], v[i], w[i])
			}
		}
	}
}

func kind(x float64) string {
	switch {
	case math.IsNaN(x), math.IsInf(x, 0):
		return fmt.Sprint(x)
	}
	return "finite"
}

// Where the engine stores values as bf16, results are those of f32 rounded once.
func TestNarrowValuesAreRoundedOnce(t *testing.T) {
	r := newRig(t)
	tape, own := New(Options{}), New(Options{Generate: true})
	var wide, narrow, plain []*graph.Graph
	for i, s := range samples() {
		g := s.graph(t)
		if h := fused(t, g); i%2 == 0 && len(chainsOf(h)) == 1 && len(g.Inputs) < 9 {
			plain, wide, narrow = append(plain, g), append(wide, h), append(narrow, narrowed(fused(t, g)))
		}
	}
	r.compileAll(t, own, narrow...)
	for i, g := range plain {
		in := fill(g, 3, true)
		want := r.run(t, tape, wide[i], in)
		for _, f := range []*Fuser{tape, own} {
			for k, got := range r.run(t, f, narrow[i], narrowTensors(in)) {
				if w := narrowTensors(want[k : k+1])[0]; nmse(got, w) != 0 {
					t.Errorf("%v, generated %v: %v, wants %v", narrow[i], f.options.Generate, floats(got), floats(w))
				}
			}
		}
	}
}

// narrowed has all f32 values of a graph as bf16.
func narrowed(g *graph.Graph) *graph.Graph {
	for _, n := range g.Nodes {
		n.Out = slices.Clone(n.Out)
		for i := range n.Out {
			if n.Out[i].DType == tensor.F32 {
				n.Out[i].DType = tensor.BF16
			}
		}
	}
	return g
}

func narrowTensors(all []*tensor.Tensor) (out []*tensor.Tensor) {
	for _, x := range all {
		if x.DType == tensor.F32 {
			y := tensor.New(tensor.Type{DType: tensor.BF16, Shape: x.Shape})
			for i, v := range x.F32() {
				y.U16()[i] = tensor.F32ToBF16(v)
			}
			x = y
		}
		out = append(out, x)
	}
	return out
}

// Indices of 64 bits give what those of 32 do.
func TestWideIndicesGiveTheSame(t *testing.T) {
	r := newRig(t)
	tape, own := New(Options{}), New(Options{Generate: true})
	var all []*graph.Graph
	for i, s := range samples() {
		if g := fused(t, s.graph(t)); i%3 == 0 && len(g.Inputs) < 9 {
			for _, n := range chainsOf(g) {
				ChainOf(n).p.wide = true
			}
			all = append(all, g)
		}
	}
	r.compileAll(t, own, all...)
	for _, g := range all {
		in := fill(g, 3, false)
		got, same := r.run(t, tape, g, in), r.run(t, own, g, in)
		for _, n := range chainsOf(g) {
			ChainOf(n).p.wide = false
		}
		for k, want := range r.run(t, tape, g, in) {
			if !bytes.Equal(got[k].Data, want.Data) || !bytes.Equal(same[k].Data, want.Data) {
				t.Errorf("%v: %v and %v, want %v", g, floats(got[k]), floats(same[k]), floats(want))
			}
		}
	}
}
