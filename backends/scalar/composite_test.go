package scalar_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// composite is one use of a composite op. Inputs are f32 and random unless
// data says otherwise.
type composite struct {
	op      string
	attr    any
	in      []tensor.Type
	data    map[int][]float64
	ints    map[int][]int32
	through bool // the gradient is not that of the value
}

func (c composite) String() string { return fmt.Sprint(c.op, c.attr, c.in) }

func f32(dims ...int) tensor.Type { return tensor.T(tensor.F32, dims...) }
func i32(dims ...int) tensor.Type { return tensor.T(tensor.I32, dims...) }

func composites() []composite {
	var cs []composite
	for _, s := range [][]int{{1, 1}, {3, 5}, {7, 64}, {2, 3, 130}} {
		cs = append(cs,
			composite{op: "rmsnorm", attr: graph.NormAttr{Eps: 1e-5}, in: []tensor.Type{f32(s...), f32(s[len(s)-1])}},
			composite{op: "softmax", in: []tensor.Type{f32(s...)}},
			composite{op: "swiglu", in: []tensor.Type{f32(s...), f32(s...)}},
			composite{op: "int8", in: []tensor.Type{f32(s...)}, through: true})
	}
	for _, s := range []struct {
		dims []int
		pos  []int32
	}{{[]int{1, 1, 1, 2}, []int32{0}}, {[]int{2, 3, 2, 6}, []int32{5, 0}}, {[]int{1, 4, 3, 10}, []int32{1000}}} {
		cs = append(cs, composite{
			op: "rope", attr: graph.RoPEAttr{Theta: 10000}, in: []tensor.Type{f32(s.dims...), i32(s.dims[0])},
			ints: map[int][]int32{1: s.pos},
		})
	}
	for _, s := range []struct {
		B, T, H, D, S, KV int
		pos               []int32
	}{
		{1, 1, 1, 1, 1, 1, []int32{0}},
		{2, 5, 4, 6, 5, 4, []int32{0, 0}},
		{2, 3, 6, 4, 9, 2, []int32{6, 1}},
		{1, 1, 4, 8, 7, 1, []int32{3}},
	} {
		cs = append(cs, composite{
			op: "attention", in: []tensor.Type{f32(s.B, s.T, s.H, s.D), f32(s.B, s.S, s.KV, s.D), f32(s.B, s.S, s.KV, s.D), i32(s.B)},
			ints: map[int][]int32{3: s.pos},
		})
	}
	for _, s := range []struct {
		n, v   int
		target []int32
	}{{1, 1, []int32{0}}, {4, 7, []int32{6, -1, 0, 3}}, {2, 300, []int32{299, 17}}} {
		cs = append(cs, composite{op: "crossentropy", in: []tensor.Type{f32(s.n, s.v), i32(s.n)}, ints: map[int][]int32{1: s.target}})
	}
	for _, s := range [][]int{{1, 1, 1}, {3, 2, 5}, {2, 4, 70}} {
		cs = append(cs,
			composite{op: "streamread", in: []tensor.Type{f32(s...), f32(s[1])}},
			composite{op: "streamwrite", in: []tensor.Type{f32(s...), f32(s[0], s[2]), f32(s[1], s[1]), f32(s[1])}})
	}
	cs = append(cs, composite{
		op: "adamw", attr: graph.AdamAttr{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1},
		in:   []tensor.Type{f32(3, 50), f32(3, 50), f32(3, 50), f32(3, 50), f32(), f32(), f32()},
		data: map[int][]float64{3: squares(150), 4: {0.01}, 5: {0.19}, 6: {0.0975}},
	})
	return append(cs, linears()...)
}

func squares(n int) []float64 {
	x := random("squares", n)
	for i := range x {
		x[i] *= x[i]
	}
	return x
}

func linears() []composite {
	var cs []composite
	for _, act := range []int{0, 8} {
		for _, s := range []struct {
			n, m, k, g int
			code       tensor.DType
			levels     []int8
		}{
			{1, 1, 1, 1, tensor.U1, []int8{-1, 1}},
			{3, 5, 12, 3, tensor.U2, []int8{-1, 0, 1}},
			{2, 9, 37, 1, tensor.U2, []int8{-1, 0, 1}},
			{9, 70, 130, 2, tensor.U4, []int8{-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}},
			{4, 6, 21, 0, tensor.U4, []int8{-127, -3, 0, 3, 127}},
		} {
			scales := f32(s.m, s.g)
			if s.g == 0 {
				scales = f32(1, 1)
			}
			a, codes := graph.LinearAttr{Levels: s.levels, ActBits: act}, tensor.T(s.code, s.m, s.k)
			cs = append(cs,
				composite{op: "codebookmatmul", attr: a, in: []tensor.Type{f32(s.n, s.k), codes, scales}, through: true},
				composite{op: "bitlinear", attr: a, in: []tensor.Type{f32(s.n, s.k), f32(s.m, s.k), codes, scales}, through: true})
		}
	}
	return cs
}

// inputs makes the operands, and cotangents for the results.
func (c composite) inputs(t *testing.T) (operands []tensor.Type, in map[string]*tensor.Tensor) {
	op := graph.Lookup(c.op)
	operands = slices.Clone(c.in)
	trace(t, func(b *graph.Builder) {
		for _, v := range b.Apply(op, c.attr, declare(b, c.in)...) {
			operands = append(operands, v.Type())
		}
	})
	in = map[string]*tensor.Tensor{}
	for i, typ := range operands {
		name := operandName(i)
		x := tensor.New(typ)
		switch {
		case typ.DType == tensor.I32:
			copy(x.I32(), c.ints[i])
		case typ.DType.Codes():
			codes(x, len(c.attr.(graph.LinearAttr).Levels))
		default:
			v := c.data[i]
			if v == nil {
				v = random(name, typ.Shape.Numel())
			}
			for j := range v {
				x.F32()[j] = float32(v[j])
			}
		}
		in[name] = x
	}
	return operands, in
}

// codes fills x with codes below n.
func codes(x *tensor.Tensor, n int) {
	perByte, width := x.DType.Block(), x.Shape[1]
	bytes := len(x.Data) / x.Shape[0]
	for i, v := range random("codes", x.Shape.Numel()) {
		r, k := i/width, i%width
		x.Data[r*bytes+k/perByte] |= byte(int(math.Abs(v)*100)%n) << (k % perByte * 8 / perByte)
	}
}

func operandName(i int) string { return string(rune('a' + i)) }

func declare(b *graph.Builder, types []tensor.Type) []graph.Value {
	var vs []graph.Value
	for i, t := range types {
		vs = append(vs, b.Input(operandName(i), t.DType, t.Shape...))
	}
	return vs
}

// graphs builds one graph of the op and one of its pullback. Operands are the
// results of other nodes, so that their memory may be taken.
func (c composite) graphs(t *testing.T, operands []tensor.Type) map[string]*graph.Graph {
	op := graph.Lookup(c.op)
	build := func(op *graph.Op, n int) *graph.Graph {
		return trace(t, func(b *graph.Builder) {
			vs := declare(b, operands[:n])
			for i, v := range vs {
				if v.Type().DType == tensor.F32 {
					vs[i] = b.Neg(b.Neg(v))
				}
			}
			for i, v := range b.Apply(op, c.attr, vs...) {
				b.Output(operandName(i), v)
			}
		})
	}
	gs := map[string]*graph.Graph{"value": build(op, len(c.in))}
	if op.Pullback() != nil {
		gs["pullback"] = build(op.Pullback(), len(operands))
	}
	return gs
}

func TestKernelsEqualTheirExpansions(t *testing.T) {
	for _, c := range composites() {
		operands, in := c.inputs(t)
		for part, g := range c.graphs(t, operands) {
			t.Run(fmt.Sprint(c, part), func(t *testing.T) {
				want := newRunner(t, backend64(primitives[float64](), one), g).floats(in)
				got := newRunner(t, backend64(scalar.Kernels[float64](), one), g).floats(in)
				narrow := newRunner(t, backend32(scalar.Kernels[float32](), one), g).floats(in)
				narrowWant := newRunner(t, backend32(primitives[float32](), one), g).floats(in)
				sameShape(t, got, want)
				for i := range want {
					if d := far(got[i], want[i]); !(d < 1e-12) {
						t.Errorf("f64 result %d is %g off:\n got %v\nwant %v", i, d, head(got[i]), head(want[i]))
					}
					if d := far(narrow[i], narrowWant[i]); !(d < 2e-5) {
						t.Errorf("f32 result %d is %g off:\n got %v\nwant %v", i, d, head(narrow[i]), head(narrowWant[i]))
					}
				}
			})
		}
	}
}

func head(x []float64) []float64 { return x[:min(len(x), 12)] }

func TestBitsDependOnNeitherWorkersNorPlaces(t *testing.T) {
	for _, c := range composites() {
		operands, in := c.inputs(t)
		for part, g := range c.graphs(t, operands) {
			t.Run(fmt.Sprint(c, part), func(t *testing.T) {
				want := newRunner(t, backend32(scalar.Kernels[float32](), host.Config{Threads: 1, NoReuse: true}), g).bytes(in)
				for _, cfg := range []host.Config{{Threads: 1}, {Threads: 3}} {
					for name, table := range map[string]host.Table{"": scalar.Kernels[float32](), "split ": split(scalar.Kernels[float32]())} {
						got := newRunner(t, backend32(table, cfg), g).bytes(in)
						if !slices.Equal(got, want) {
							t.Errorf("%s%+v: other bits than on one worker with memory apart", name, cfg)
						}
					}
				}
			})
		}
	}
}

// split is a table whose loops are cut into single items wherever they may be.
func split(t host.Table) host.Table {
	for op, ks := range t {
		k := ks[0]
		bind := k.Bind
		k.Bind = func(c *host.Call) []host.Loop {
			loops := bind(c)
			for i := range loops {
				loops[i].Grain = min(loops[i].Grain, 1)
			}
			return loops
		}
		t[op] = []host.Kernel{k}
	}
	return t
}

// The pullback is checked against central differences of the value, which
// share nothing with it.
func TestPullbacksAreDerivatives(t *testing.T) {
	const h = 1e-5
	for _, c := range composites() {
		if c.through || graph.Lookup(c.op).Pullback() == nil {
			continue
		}
		t.Run(c.String(), func(t *testing.T) {
			operands, in := c.inputs(t)
			gs := c.graphs(t, operands)
			value := newRunner(t, scalar.Open64(1), gs["value"])
			grads := newRunner(t, scalar.Open64(1), gs["pullback"]).floats(in)
			for i, typ := range c.in {
				if typ.DType != tensor.F32 {
					continue
				}
				grad := grads[0]
				grads = grads[1:]
				x := in[operandName(i)].Floats()
				dir := random("direction"+operandName(i), len(x))
				want := 0.0
				for j := range dir {
					want += grad[j] * dir[j]
				}
				got := (c.loss(value, in, i, x, dir, h) - c.loss(value, in, i, x, dir, -h)) / (2 * h)
				if d := math.Abs(got-want) / (1 + math.Abs(want)); !(d < 1e-7) {
					t.Errorf("operand %d: pullback %v, differences %v", i, want, got)
				}
			}
		})
	}
}

// loss is the value at x + h*dir for operand i, times the cotangents.
func (c composite) loss(r *runner, in map[string]*tensor.Tensor, i int, x, dir []float64, h float64) float64 {
	moved := make([]float64, len(x))
	for j := range x {
		moved[j] = x[j] + h*dir[j]
	}
	args := map[string]*tensor.Tensor{}
	for k, v := range in {
		args[k] = v
	}
	args[operandName(i)] = tensor.FromF64(moved, c.in[i].Shape...)
	sum := 0.0
	for k, out := range r.floats(args) {
		ct := in[operandName(len(c.in)+k)].Floats()
		for j, v := range out {
			sum += v * ct[j]
		}
	}
	return sum
}
