package scalar_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// known is an op on given operands and the result worked out by hand.
type known struct {
	name  string
	in    []*tensor.Tensor
	build func(b *graph.Builder, in []graph.Value) graph.Value
	want  []float64
}

func vec(v ...float32) *tensor.Tensor { return tensor.FromF32(v, len(v)) }
func mat(rows, cols int, v ...float32) *tensor.Tensor {
	return tensor.FromF32(v, rows, cols)
}
func ids(v ...int32) *tensor.Tensor { return tensor.FromI32(v, len(v)) }

// raw is a tensor of the given bytes.
func raw(t tensor.Type, data ...byte) *tensor.Tensor {
	x := tensor.New(t)
	copy(x.Data, data)
	return x
}

func unaries() []known {
	one := func(name string, f func(b *graph.Builder, x graph.Value) graph.Value, in []float32, want ...float64) known {
		return known{name, []*tensor.Tensor{vec(in...)}, func(b *graph.Builder, in []graph.Value) graph.Value { return f(b, in[0]) }, want}
	}
	type B = graph.Builder
	return []known{
		one("neg", (*B).Neg, []float32{1, -2, 0.5}, -1, 2, -0.5),
		one("exp", (*B).Exp, []float32{0, 1, -1}, 1, math.E, 1/math.E),
		one("log", (*B).Log, []float32{1, 2, 0}, 0, math.Ln2, math.Inf(-1)),
		one("sqrt", (*B).Sqrt, []float32{4, 2}, 2, math.Sqrt2),
		one("rsqrt", (*B).Rsqrt, []float32{4, 0.25}, 0.5, 2),
		one("sin", (*B).Sin, []float32{0, 1}, 0, 0.8414709848078965),
		one("cos", (*B).Cos, []float32{0, 1}, 1, 0.5403023058681398),
		one("abs", (*B).Abs, []float32{-3, 3}, 3, 3),
		one("sigmoid", (*B).Sigmoid, []float32{0, 2, -200}, 0.5, 0.8807970779778823, 0),
		one("round", (*B).Round, []float32{0.5, 1.5, 2.5, -0.5, -1.4}, 0, 2, 2, 0, -1),
		one("scale", func(b *B, x graph.Value) graph.Value { return b.Scale(x, -3) }, []float32{1, 2}, -3, -6),
		one("cast to f16 rounds half to even", func(b *B, x graph.Value) graph.Value {
			return b.Cast(b.Cast(x, tensor.F16), tensor.F32)
		}, []float32{1, 2049, 2051, 1e6, 1e-8}, 1, 2048, 2052, math.Inf(1), 0),
		one("cast to bf16 rounds half to even", func(b *B, x graph.Value) graph.Value {
			return b.Cast(b.Cast(x, tensor.BF16), tensor.F32)
		}, []float32{257, 259, -257}, 256, 260, -256),
	}
}

func binaries() []known {
	two := func(name string, f func(b *graph.Builder, x, y graph.Value) graph.Value, x, y *tensor.Tensor, want ...float64) known {
		return known{name, []*tensor.Tensor{x, y}, func(b *graph.Builder, in []graph.Value) graph.Value { return f(b, in[0], in[1]) }, want}
	}
	type B = graph.Builder
	m := mat(2, 3, 1, 2, 3, 4, 5, 6)
	return []known{
		two("add", (*B).Add, m, mat(2, 3, 6, 5, 4, 3, 2, 1), 7, 7, 7, 7, 7, 7),
		two("sub a row", (*B).Sub, m, mat(1, 3, 1, 2, 3), 0, 0, 0, 3, 3, 3),
		two("sub from a row", (*B).Sub, mat(1, 3, 1, 2, 3), m, 0, 0, 0, -3, -3, -3),
		two("mul a column", (*B).Mul, m, mat(2, 1, 10, 100), 10, 20, 30, 400, 500, 600),
		two("div by a scalar", (*B).Div, m, mat(1, 1, 2), 0.5, 1, 1.5, 2, 2.5, 3),
		two("div a column by a row", (*B).Div, mat(2, 1, 6, 12), mat(1, 3, 1, 2, 3), 6, 3, 2, 12, 6, 4),
		two("max", (*B).Max, vec(1, -2), vec(0, 3), 1, 3),
		two("min", (*B).Min, vec(1, -2), vec(0, 3), 0, -2),
		two("less", (*B).Less, vec(1, 2, 3), vec(2, 2, 2), 1, 0, 0),
		two("equal", (*B).Equal, vec(1, 2, 3), vec(2, 2, 2), 0, 1, 0),
		two("gather", (*B).Gather, m, ids(1, 0, 1), 4, 5, 6, 1, 2, 3, 4, 5, 6),
		two("scatteradd", func(b *B, x, y graph.Value) graph.Value { return b.ScatterAdd(x, y, 3) }, m, ids(2, 2), 0, 0, 0, 0, 0, 0, 5, 7, 9),
		two("concat rows", func(b *B, x, y graph.Value) graph.Value { return b.Concat(0, x, y) }, mat(1, 2, 1, 2), mat(2, 2, 3, 4, 5, 6), 1, 2, 3, 4, 5, 6),
		two("concat columns", func(b *B, x, y graph.Value) graph.Value { return b.Concat(1, x, y) }, mat(2, 1, 1, 2), mat(2, 2, 3, 4, 5, 6), 1, 3, 4, 2, 5, 6),
		two("matmul", func(b *B, x, y graph.Value) graph.Value { return b.MatMul(x, y, false, true) }, m, mat(1, 3, 1, 10, 100), 321, 654),
		two("where", func(b *B, x, y graph.Value) graph.Value { return b.Where(b.Less(x, y), x, b.Like(y, 9)) }, vec(1, 5), vec(2, 2), 1, 9),
	}
}

func moves() []known {
	type B = graph.Builder
	one := func(name string, x *tensor.Tensor, f func(b *B, x graph.Value) graph.Value, want ...float64) known {
		return known{name, []*tensor.Tensor{x}, func(b *B, in []graph.Value) graph.Value { return f(b, in[0]) }, want}
	}
	m := mat(2, 3, 1, 2, 3, 4, 5, 6)
	half := tensor.New(tensor.T(tensor.F16, 2, 2))
	copy(half.U16(), []uint16{0x3c00, 0x4000, 0x7c00, 0x0001}) // 1, 2, inf, 2^-24
	return []known{
		one("sum rows", m, func(b *B, x graph.Value) graph.Value { return b.Sum(x, 1) }, 6, 15),
		one("sum columns", m, func(b *B, x graph.Value) graph.Value { return b.Sum(x, 0) }, 5, 7, 9),
		one("amax columns", mat(2, 2, -1, -5, -2, -4), func(b *B, x graph.Value) graph.Value { return b.AMax(x, 0) }, -1, -4),
		one("transpose", m, func(b *B, x graph.Value) graph.Value { return b.Transpose(x, 1, 0) }, 1, 4, 2, 5, 3, 6),
		one("transpose i32", tensor.FromI32([]int32{1, 2, 3, 4}, 2, 2), func(b *B, x graph.Value) graph.Value { return b.Transpose(x, 1, 0) }, 1, 3, 2, 4),
		one("transpose bytes", raw(tensor.T(tensor.Bool, 2, 3), 1, 0, 0, 1, 1, 0), func(b *B, x graph.Value) graph.Value { return b.Transpose(x, 1, 0) }, 1, 1, 0, 1, 0, 0),
		one("transpose halves", half, func(b *B, x graph.Value) graph.Value { return b.Cast(b.Transpose(x, 1, 0), tensor.F32) }, 1, math.Inf(1), 2, 0x1p-24),
		one("broadcast", mat(2, 1, 1, 2), func(b *B, x graph.Value) graph.Value { return b.Broadcast(x, tensor.Shape{2, 3}) }, 1, 1, 1, 2, 2, 2),
		one("slice", m, func(b *B, x graph.Value) graph.Value { return b.Slice(x, 1, 1, 3) }, 2, 3, 5, 6),
		one("pad", mat(2, 1, 1, 2), func(b *B, x graph.Value) graph.Value { return b.Pad(x, 1, 1, 2) }, 0, 1, 0, 0, 0, 2, 0, 0),
		one("iota", m, func(b *B, _ graph.Value) graph.Value { return b.Iota(4) }, 0, 1, 2, 3),
		one("const", m, func(b *B, _ graph.Value) graph.Value { return b.Const(2.5, tensor.T(tensor.F32, 2)) }, 2.5, 2.5),
		one("const i32", m, func(b *B, _ graph.Value) graph.Value { return b.Const(-7, tensor.T(tensor.I32, 2)) }, -7, -7),
		one("cast i32", ids(-3, 7), func(b *B, x graph.Value) graph.Value { return b.Cast(x, tensor.F32) }, -3, 7),
		one("cast bool", raw(tensor.T(tensor.Bool, 2), 1, 0), func(b *B, x graph.Value) graph.Value { return b.Cast(x, tensor.F32) }, 1, 0),
		one("gather halves", half, func(b *B, x graph.Value) graph.Value { return b.Gather(x, b.Const(1, tensor.T(tensor.I32, 1))) }, math.Inf(1), 0x1p-24),
		// Codes 2,0,1,2 and 1 in two bits each, low bits first, rows padded.
		one("decode", raw(tensor.T(tensor.U2, 1, 5), 0b10_01_00_10, 0b01), func(b *B, x graph.Value) graph.Value { return b.Decode(x, []int8{-1, 0, 1}) }, 1, -1, 0, 1, 0),
		one("decode u1", raw(tensor.T(tensor.U1, 2, 3), 0b101, 0b010), func(b *B, x graph.Value) graph.Value { return b.Decode(x, []int8{-1, 1}) }, 1, -1, 1, -1, 1, -1),
		one("decode u4", raw(tensor.T(tensor.U4, 3), 0x21, 0x0f), func(b *B, x graph.Value) graph.Value { return b.Decode(x, []int8{5, -6, 7}) }, -6, 7, 0),
		one("encode", mat(2, 5, -1, 0, 1, 0.6, -9, 1, 0.4, 0.5, -0.5, 1), func(b *B, x graph.Value) graph.Value { return b.Encode(x, tensor.U2, []int8{-1, 0, 1}) },
			0b10_10_01_00, 0b00, 0b00_01_01_10, 0b10),
	}
}

func TestPrimitivesGiveKnownValues(t *testing.T) {
	for _, k := range slices.Concat(unaries(), binaries(), moves()) {
		t.Run(k.name, func(t *testing.T) {
			in := map[string]*tensor.Tensor{}
			g := trace(t, func(b *graph.Builder) {
				var vs []graph.Value
				for i, x := range k.in {
					vs = append(vs, b.Input(operandName(i), x.DType, x.Shape...))
					in[operandName(i)] = x
				}
				b.Output("z", k.build(b, vs))
			})
			for _, b := range []struct {
				name string
				got  []float64
				tol  float64
			}{
				{"f32", newRunner(t, backend32(scalar.Kernels[float32](), one), g).floats(in)[0], 1e-7},
				{"f64", newRunner(t, scalar.Open64(1), g).floats(in)[0], 1e-15},
			} {
				if len(b.got) != len(k.want) {
					t.Fatalf("%s: got %v, want %v", b.name, b.got, k.want)
				}
				for i, w := range k.want {
					if v := b.got[i]; v != w && !(math.Abs(v-w) <= b.tol) {
						t.Errorf("%s: got %v, want %v", b.name, b.got, k.want)
						break
					}
				}
			}
		})
	}
}

// Each shape is written as an index and read back by the definition of
// broadcasting: dimensions of 1 are repeated.
func TestBroadcastingFollowsItsDefinition(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rank := rapid.IntRange(0, 5).Draw(r, "rank")
		out, shapes := make([]int, rank), [3][]int{}
		for d := range rank {
			out[d] = rapid.IntRange(1, 4).Draw(r, "dim")
			some := rapid.IntRange(0, 2).Draw(r, "whole")
			for k := range shapes {
				n := out[d]
				if k != some && rapid.Bool().Draw(r, "repeat") {
					n = 1
				}
				shapes[k] = append(shapes[k], n)
			}
		}
		in := map[string]*tensor.Tensor{}
		for k, s := range shapes {
			x := tensor.New(tensor.T(tensor.F32, s...))
			for i := range x.F32() {
				x.F32()[i] = float32(i + 100*k)
			}
			in[operandName(k)] = x
		}
		g, err := graph.Trace(func(b *graph.Builder) {
			v := declare(b, []tensor.Type{f32(shapes[0]...), f32(shapes[1]...), f32(shapes[2]...)})
			odd := b.Equal(v[0], b.Scale(b.Round(b.Scale(v[0], 0.5)), 2))
			b.Output("sub", b.Sub(v[0], v[1]))
			b.Output("where", b.Where(odd, v[1], v[2]))
		})
		if err != nil {
			r.Fatal(err)
		}
		got := newRunner(t, backend32(split(scalar.Kernels[float32]()), host.Config{Threads: 2}), g).floats(in)
		each(out, func(i int, idx []int) {
			a, b, c := at(idx, shapes[0]), at(idx, shapes[1])+100, at(idx, shapes[2])+200
			if want := c; int(a)%2 != 0 && got[1][i] != want || int(a)%2 == 0 && got[1][i] != b {
				r.Errorf("where of %v: element %v is %v", shapes, idx, got[1][i])
			}
		})
		pair := make([]int, rank)
		for d := range pair {
			pair[d] = max(shapes[0][d], shapes[1][d])
		}
		each(pair, func(i int, idx []int) {
			if want := at(idx, shapes[0]) - at(idx, shapes[1]) - 100; got[0][i] != want {
				r.Errorf("sub of %v: element %v is %v, want %v", shapes[:2], idx, got[0][i], want)
			}
		})
	})
}

// each calls f with every index of shape s in order.
func each(s []int, f func(i int, idx []int)) {
	for i := range tensor.Shape(s).Numel() {
		idx, rest := make([]int, len(s)), i
		for d := len(s) - 1; d >= 0; d-- {
			idx[d], rest = rest%s[d], rest/s[d]
		}
		f(i, idx)
	}
}

// at is the position of an index in shape s, which repeats dimensions of 1.
func at(idx, s []int) float64 {
	k := 0
	for d, n := range s {
		k = k*n + idx[d]%n
	}
	return float64(k)
}

func TestTransposeFollowsItsDefinition(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := rapid.SliceOfN(rapid.IntRange(1, 4), 1, 5).Draw(r, "shape")
		axes := make([]int, len(s))
		for i := range axes {
			axes[i] = i
		}
		perm := rapid.Permutation(axes).Draw(r, "perm")
		x := tensor.New(tensor.T(tensor.F32, s...))
		for i := range x.F32() {
			x.F32()[i] = float32(i)
		}
		g, err := graph.Trace(func(b *graph.Builder) {
			b.Output("z", b.Transpose(b.Input("a", tensor.F32, s...), perm...))
		})
		if err != nil {
			r.Fatal(err)
		}
		got := newRunner(t, backend32(split(scalar.Kernels[float32]()), host.Config{Threads: 2}), g).floats(map[string]*tensor.Tensor{"a": x})[0]
		out := make([]int, len(s))
		for i, p := range perm {
			out[i] = s[p]
		}
		each(out, func(i int, idx []int) {
			from := make([]int, len(s))
			for d, p := range perm {
				from[p] = idx[d]
			}
			if got[i] != at(from, s) {
				r.Errorf("%v by %v: element %v is %v, want %v", s, perm, idx, got[i], at(from, s))
			}
		})
	})
}

func TestMatMulIsTheSumOfProducts(t *testing.T) {
	for _, s := range [][4]int{{1, 1, 1, 1}, {1, 1, 70, 33}, {2, 3, 5, 7}, {1, 9, 65, 100}, {3, 2, 130, 31}, {1, 17, 3, 64}, {2, 2, 6, 129}} {
		for mode := range 8 {
			transX, transY, half := mode&1 != 0, mode&2 != 0, mode&4 != 0
			t.Run(fmt.Sprint(s, transX, transY, half), func(t *testing.T) {
				B, m, n, k := s[0], s[1], s[2], s[3]
				xs, ys := []int{B, m, k}, []int{B, k, n}
				if transX {
					xs = []int{B, k, m}
				}
				if transY {
					ys = []int{B, n, k}
				}
				g := trace(t, func(b *graph.Builder) {
					x, y := b.Input("a", tensor.F32, xs...), b.Input("b", tensor.F32, ys...)
					if half {
						y = b.Cast(y, tensor.F16)
					}
					b.Output("z", b.MatMul(x, y, transX, transY))
				})
				in := map[string]*tensor.Tensor{"a": numbers("a", xs), "b": numbers("b", ys)}
				x, y := in["a"].Floats(), in["b"].Floats()
				if half {
					for i, v := range y {
						y[i] = float64(tensor.F16ToF32(tensor.F32ToF16(float32(v))))
					}
				}
				want := make([]float64, B*m*n)
				each([]int{B, m, n, k}, func(_ int, i []int) {
					p, q := []int{i[0], i[1], i[3]}, []int{i[0], i[3], i[2]}
					if transX {
						p[1], p[2] = p[2], p[1]
					}
					if transY {
						q[1], q[2] = q[2], q[1]
					}
					want[(i[0]*m+i[1])*n+i[2]] += x[int(at(p, xs))] * y[int(at(q, ys))]
				})
				for name, got := range map[string][]float64{
					"f32": newRunner(t, backend32(scalar.Kernels[float32](), host.Config{Threads: 2}), g).floats(in)[0],
					"f64": newRunner(t, scalar.Open64(2), g).floats(in)[0],
				} {
					if d := far(got, want); !(d < map[string]float64{"f32": 1e-7, "f64": 1e-14}[name]) {
						t.Errorf("%s: %g off", name, d)
					}
				}
			})
		}
	}
}

func numbers(name string, s []int) *tensor.Tensor {
	x := tensor.New(tensor.T(tensor.F32, s...))
	for i, v := range random(name, len(x.F32())) {
		x.F32()[i] = float32(v)
	}
	return x
}

// A row of a product does not depend on how many rows there are: a model
// decodes what it would have given for the whole prompt.
func TestARowOfAProductDoesNotDependOnTheOthers(t *testing.T) {
	for _, transY := range []bool{false, true} {
		const n, k = 70, 100
		ys := []int{k, n}
		if transY {
			ys = []int{n, k}
		}
		run := func(rows int) []float64 {
			g := trace(t, func(b *graph.Builder) {
				b.Output("z", b.MatMul(b.Input("a", tensor.F32, rows, k), b.Input("b", tensor.F32, ys...), false, transY))
			})
			in := map[string]*tensor.Tensor{"a": numbers("a", []int{rows, k}), "b": numbers("b", ys)}
			return newRunner(t, scalar.Open64(1), g).floats(in)[0]
		}
		all := run(11)
		for _, rows := range []int{1, 2, 3} {
			if got := run(rows); !slices.Equal(got, all[:rows*n]) {
				t.Errorf("transY %v: the first %d rows alone differ from those of 11", transY, rows)
			}
		}
	}
}
