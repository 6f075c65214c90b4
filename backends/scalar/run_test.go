package scalar_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func TestIdsOutOfRangeFailTheRun(t *testing.T) {
	cache := func(b *graph.Builder, pos graph.Value) graph.Value {
		return b.UpdateAt(b.Const(0, f32(1, 8, 2)), b.Const(1, f32(1, 3, 2)), pos, 1)
	}
	for _, c := range []struct {
		op    string
		bad   []int32
		good  []int32
		build func(b *graph.Builder, id graph.Value) graph.Value
	}{
		{"gather", []int32{-1, 4, math.MaxInt32, math.MinInt32}, []int32{0, 3}, func(b *graph.Builder, id graph.Value) graph.Value {
			return b.Gather(b.Const(1, f32(4, 3)), id)
		}},
		{"scatteradd", []int32{-1, 4, math.MaxInt32, math.MinInt32}, []int32{0, 3}, func(b *graph.Builder, id graph.Value) graph.Value {
			return b.ScatterAdd(b.Const(1, f32(1, 3)), id, 4)
		}},
		{"updateat", []int32{-1, 6, math.MaxInt32, math.MinInt32}, []int32{0, 5}, cache},
		{"attention", []int32{-1, 7, math.MaxInt32, math.MinInt32}, []int32{0, 6}, func(b *graph.Builder, id graph.Value) graph.Value {
			k := b.Const(1, f32(1, 8, 1, 2))
			return b.Attention(b.Const(1, f32(1, 2, 2, 2)), k, k, id)
		}},
		{"crossentropy", []int32{5, math.MaxInt32}, []int32{4, -1, math.MinInt32}, func(b *graph.Builder, id graph.Value) graph.Value {
			return b.CrossEntropy(b.Const(1, f32(1, 5)), id)
		}},
	} {
		t.Run(c.op, func(t *testing.T) {
			g := trace(t, func(b *graph.Builder) {
				z := c.build(b, b.Input("id", tensor.I32, 1))
				b.Output("z", z)
				if op := z.N.Op; op.Pullback() != nil {
					for i, d := range b.Apply(op.Pullback(), z.N.Attr, append(slices.Clone(z.N.In), b.Full(z, 1))...) {
						b.Output(fmt.Sprint("d", i), d)
					}
				}
			})
			r := newRunner(t, backend32(scalar.Kernels[float32](), host.Config{Threads: 2}), g)
			run := func(id int32) error { return r.run(map[string]*tensor.Tensor{"id": ids(id)}) }
			for _, id := range c.bad {
				err := run(id)
				if !errors.Is(err, framework.ErrInput) || !strings.Contains(err.Error(), c.op) || !strings.Contains(err.Error(), fmt.Sprint(id)) {
					t.Errorf("%d: error %v, wants ErrInput naming %s and the id", id, err, c.op)
				}
			}
			for _, id := range c.good {
				if err := run(id); err != nil {
					t.Errorf("%d: %v", id, err)
				}
			}
		})
	}
}

func TestAttentionDoesNotTouchKeysBeyondItsRow(t *testing.T) {
	const S, D = 6, 3
	k, v := numbers("k", []int{1, S, 1, D}), numbers("v", []int{1, S, 1, D})
	for i := 4 * D; i < S*D; i++ {
		k.F32()[i], v.F32()[i] = float32(math.NaN()), float32(math.NaN())
	}
	g := trace(t, func(b *graph.Builder) {
		vs := declare(b, []tensor.Type{f32(1, 2, 2, D), f32(1, S, 1, D), f32(1, S, 1, D), i32(1)})
		z := b.Attention(vs[0], vs[1], vs[2], vs[3])
		b.Output("z", z)
		for i, d := range b.Apply(z.N.Op.Pullback(), nil, append(vs, b.Full(z, 1))...) {
			b.Output(fmt.Sprint("d", i), d)
		}
	})
	out := newRunner(t, scalar.Open64(1), g).floats(map[string]*tensor.Tensor{"a": numbers("q", []int{1, 2, 2, D}), "b": k, "c": v, "d": ids(2)})
	for i, x := range out {
		for j, e := range x {
			if math.IsNaN(e) {
				t.Errorf("result %d, element %d is NaN", i, j)
			}
			if beyond := j >= 4*D; i >= 2 && beyond && e != 0 {
				t.Errorf("gradient of a key beyond the rows is %v, want 0", e)
			}
		}
	}
}

func TestEightBitProductsAreExact(t *testing.T) {
	// Every weight is 1 and every activation the largest of its row: the
	// product is the sum.
	const k = 4096
	x := tensor.New(f32(2, k))
	for i := range x.F32() {
		x.F32()[i] = 127 * float32(1+i/k)
	}
	in := map[string]*tensor.Tensor{"a": x, "b": tensor.New(tensor.T(tensor.U1, 3, k)), "c": tensor.FromF32([]float32{1, 2, 4}, 3, 1)}
	g := trace(t, func(b *graph.Builder) {
		vs := declare(b, []tensor.Type{f32(2, k), tensor.T(tensor.U1, 3, k), f32(3, 1)})
		b.Output("z", b.CodeBookMatMul(vs[0], vs[1], vs[2], graph.LinearAttr{Levels: []int8{1}, ActBits: 8}))
	})
	got := newRunner(t, backend32(scalar.Kernels[float32](), one), g).floats(in)[0]
	for i, v := range got {
		want := 127 * float64(k) * float64(1+i/3) * float64(int(1)<<(i%3))
		if math.Abs(v-want) > want*1e-7 {
			t.Errorf("element %d is %v, want %v", i, v, want)
		}
	}
}

func TestInt8RoundsToItsGrid(t *testing.T) {
	g := trace(t, func(b *graph.Builder) {
		b.Output("z", b.Int8(b.Input("a", tensor.F32, 2, 4)))
	})
	in := mat(2, 4, 127, 0.5, 1.5, -2.6, 0, 0, 0, 0)
	got := newRunner(t, backend32(scalar.Kernels[float32](), one), g).floats(map[string]*tensor.Tensor{"a": in})[0]
	for i, want := range []float64{127, 0, 2, -3, 0, 0, 0, 0} {
		if math.Abs(got[i]-want) > 1e-5 {
			t.Errorf("element %d is %v, want %v", i, got[i], want)
		}
	}
}

func TestActivationsThatAreNotFiniteGiveNaN(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		g := trace(t, func(b *graph.Builder) {
			vs := declare(b, []tensor.Type{f32(2, 2), tensor.T(tensor.U1, 1, 2), f32(1, 1)})
			b.Output("z", b.CodeBookMatMul(vs[0], vs[1], vs[2], graph.LinearAttr{Levels: []int8{-1, 1}, ActBits: 8}))
		})
		in := map[string]*tensor.Tensor{"a": mat(2, 2, float32(bad), 1, 1, 1), "b": raw(tensor.T(tensor.U1, 1, 2), 3), "c": mat(1, 1, 1)}
		got := newRunner(t, backend32(scalar.Kernels[float32](), one), g).floats(in)[0]
		if !math.IsNaN(got[0]) || math.Abs(got[1]-2) > 1e-6 {
			t.Errorf("%v: got %v, want NaN and 2", bad, got)
		}
	}
}

func TestUpdateAtWritesInPlaceOfItsState(t *testing.T) {
	for _, d := range []tensor.DType{tensor.F32, tensor.F16} {
		g := trace(t, func(b *graph.Builder) {
			cache := b.Buffer("cache", tensor.T(d, 2, 4, 2))
			next := b.UpdateAt(cache, b.Input("src", tensor.F32, 2, 1, 2), b.Input("pos", tensor.I32, 2), 1)
			b.Update(cache, next)
			b.Output("now", b.Gather(b.Reshape(next, 16), b.Const(0, i32(1))))
		})
		r := newRunner(t, backend32(scalar.Kernels[float32](), host.Config{Threads: 2}), g)
		want := make([]float64, 16)
		for step := range 3 {
			src, pos := tensor.FromF32([]float32{1, 2, 3, 4}, 2, 1, 2), ids(int32(step), 3)
			if err := r.run(map[string]*tensor.Tensor{"src": src, "pos": pos}); err != nil {
				t.Fatal(err)
			}
			want[2*step], want[2*step+1], want[14], want[15] = 1, 2, 3, 4
		}
		got, err := r.st.Get(t.Context(), "cache")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Floats(), want) {
			t.Errorf("%v: cache is %v, want %v", d, got.Floats(), want)
		}
	}
}

// everything is a graph of all composites and their pullbacks.
func everything(t *testing.T) (*graph.Graph, map[string]*tensor.Tensor) {
	in := map[string]*tensor.Tensor{}
	g := trace(t, func(b *graph.Builder) {
		for i, c := range composites() {
			operands, data := c.inputs(t)
			var vs []graph.Value
			for k, typ := range operands {
				name := fmt.Sprintf("in%d%s", i, operandName(k))
				in[name] = data[operandName(k)]
				vs = append(vs, b.Input(name, typ.DType, typ.Shape...))
			}
			op := graph.Lookup(c.op)
			for k, v := range b.Apply(op, c.attr, vs[:len(c.in)]...) {
				b.Output(fmt.Sprintf("out%d%s", i, operandName(k)), v)
			}
			if op.Pullback() != nil {
				for k, v := range b.Apply(op.Pullback(), c.attr, vs...) {
					b.Output(fmt.Sprintf("d%d%s", i, operandName(k)), v)
				}
			}
		}
	})
	return g, in
}

func TestARunDoesNotAllocate(t *testing.T) {
	g, in := everything(t)
	for name, table := range map[string]host.Table{"composites": scalar.Kernels[float32](), "primitives": primitives[float32]()} {
		r := newRunner(t, backend32(table, host.Config{Threads: 2}), g)
		args := make([]*tensor.Tensor, len(g.Inputs))
		for i, n := range g.Inputs {
			args[i] = in[n.Name()]
		}
		run := func() {
			if err := r.exe.Run(t.Context(), r.st, args, r.out); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(5, run); n != 0 {
			t.Errorf("%s: %v allocations a run", name, n)
		}
	}
}

func TestOpenTakesTheNumberOfThreads(t *testing.T) {
	for _, c := range []struct {
		spec string
		err  error
	}{
		{"scalar", nil},
		{"scalar:threads=3", nil},
		{"scalar:threads=-1", framework.ErrOption},
		{"scalar:threads=1000000", framework.ErrOption},
		{"scalar:threads=x", framework.ErrOption},
		{"scalar:speed=9", framework.ErrOption},
	} {
		b, err := framework.Backends.Open(c.spec)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: error %v, want %v", c.spec, err, c.err)
		}
		if err != nil {
			continue
		}
		if info := b.(framework.Describer).Describe(); c.spec == "scalar:threads=3" && info.Threads != 3 {
			t.Errorf("%s: %d threads", c.spec, info.Threads)
		}
		_ = b.Close()
	}
}

// Every primitive that may reach a kernel has one, so that anything runs.
func TestEveryPrimitiveHasAKernel(t *testing.T) {
	table := scalar.Kernels[float32]()
	for _, op := range graph.Ops() {
		leaf := op.Name == "input" || op.Name == "param" || op.Name == "buffer"
		if leaf || op.View || op.Composite() {
			continue
		}
		if len(table[op]) == 0 {
			t.Errorf("%s has no kernel", op.Name)
		}
	}
}

// A run that fails may have written states; what other graphs keep beside
// those states must follow.
func TestLayoutsFollowStatesThatAFailedRunWrote(t *testing.T) {
	levels := []int8{-1, 0, 1}
	codes := func(b *graph.Builder) graph.Value { return b.Buffer("codes", tensor.T(tensor.U2, 1, 4)) }
	reads := trace(t, func(b *graph.Builder) {
		b.Output("z", b.CodeBookMatMul(b.Const(1, f32(1, 4)), codes(b), b.Const(1, f32(1, 1)), graph.LinearAttr{Levels: levels}))
	})
	fails := trace(t, func(b *graph.Builder) {
		b.Update(codes(b), b.Encode(b.Input("w", tensor.F32, 1, 4), tensor.U2, levels))
		b.Output("row", b.Gather(b.Const(1, f32(2, 2)), b.Input("id", tensor.I32, 1)))
	})
	be := backend32(scalar.Kernels[float32](), one)
	r, f := newRunner(t, be, reads), newRunner(t, be, fails)
	f.st = r.st
	check := func() {
		t.Helper()
		now, err := r.st.Get(t.Context(), "codes")
		if err != nil {
			t.Fatal(err)
		}
		want := 0.0
		for i := range 4 {
			want += float64(levels[now.Data[0]>>(2*i)&3])
		}
		if got := r.floats(nil)[0][0]; got != want {
			t.Errorf("product %v, the codes in the store give %v", got, want)
		}
	}
	if err := f.run(map[string]*tensor.Tensor{"w": mat(1, 4, 1, 1, 1, 1), "id": ids(0)}); err != nil {
		t.Fatal(err)
	}
	check()
	if err := f.run(map[string]*tensor.Tensor{"w": mat(1, 4, -1, 0, 1, -1), "id": ids(9)}); !errors.Is(err, framework.ErrInput) {
		t.Fatalf("error %v, wants ErrInput", err)
	}
	check()
}
