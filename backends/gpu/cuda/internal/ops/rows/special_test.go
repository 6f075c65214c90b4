package rows_test

import (
	"bytes"
	"context"
	"math"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func TestNaNAndInfinitiesGoWhereTheReferenceHasThem(t *testing.T) {
	b := device(t, engine.F32)
	ref, err := scalar.Open(framework.Options{})
	must(t, err)
	defer func() { must(t, ref.Close()) }()
	for _, s := range samples() {
		if s.in[0].DType != tensor.F32 || s.in[0].Shape.Numel() > 4096 {
			continue
		}
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			in := s.tensors(form{})
			n := s.in[0].Shape.Numel()
			set(in[0], n/2, bad)
			g := s.graph(t, form{})
			want, err := run(ref, g, in, false)
			must(t, err)
			got, err := run(b, g, in, false)
			if err != nil {
				t.Fatalf("%v: %v", s, err)
			}
			for i := range want {
				if err := near(values(got[i]), values(want[i]), 1e-5); err != nil {
					t.Errorf("%v with %v at %d, result %d: %v", s, bad, n/2, i, err)
				}
			}
		}
	}
}

func TestARowOfInfinitelySmallLogitsHasNoLoss(t *testing.T) {
	b := device(t, engine.F32)
	s := sample{"crossentropy", nil, []operand{of(tensor.F32, constant(math.Inf(-1)), 2, 5), i32(0, 5, 2)}}
	got, err := run(b, s.graph(t, form{}), s.tensors(form{}), false)
	must(t, err)
	for _, v := range values(got[0]) {
		if !math.IsNaN(v) {
			t.Errorf("loss %v, want NaN", v)
		}
	}
}

func TestLogitsOfAThousandDoNotOverflow(t *testing.T) {
	b := device(t, engine.F32)
	for _, op := range []string{"crossentropy", "crossentropy.vjp"} {
		s := sample{op, nil, []operand{f32(3, 37), i32(0, 37, 3), f32(3)}[:graph.Lookup(op).Arity]}
		in := s.tensors(form{})
		for i, v := range in[0].F32() {
			in[0].F32()[i] = 1000 * v
		}
		ref := scalar.Open64(1)
		want, err := run(ref, s.graph(t, form{}), in, true)
		must(t, err)
		got, err := run(b, s.graph(t, form{}), in, false)
		must(t, err)
		must(t, near(values(got[0]), values(want[0]), 1e-5))
		must(t, ref.Close())
	}
}

// An index that is out of range is an error of the run, which names it, and the
// backend lives on.
func TestIndicesOutOfRangeAreErrors(t *testing.T) {
	b := device(t, engine.F32)
	for _, c := range []struct {
		sample
		bad []int32
	}{
		{sample{"gather", nil, []operand{f32(5, 3), i32(0, 5, 3)}}, []int32{5, -1}},
		{sample{"gather", nil, []operand{f32(5, 1100), i32(0, 5, 3)}}, []int32{5}},
		{sample{"scatteradd", graph.LenAttr{N: 5}, []operand{f32(3, 4), i32(0, 5, 3)}}, []int32{5, -1}},
		{sample{"crossentropy", nil, []operand{f32(3, 5), i32(0, 5, 3)}}, []int32{5, 1 << 30}},
		{sample{"crossentropy", nil, []operand{f32(3, 1100), i32(0, 5, 3)}}, []int32{1100}},
		{sample{"crossentropy.vjp", nil, []operand{f32(3, 5), i32(0, 5, 3), f32(3)}}, []int32{5}},
		{sample{"updateat", graph.AxisAttr{Axis: 1}, []operand{f32(3, 4, 3), f32(3, 2, 3), i32(0, 3, 3)}}, []int32{3, -1, math.MaxInt32}},
	} {
		g := c.graph(t, form{})
		good := c.tensors(form{})
		want, err := run(b, g, good, false)
		must(t, err)
		for _, bad := range c.bad {
			in := c.tensors(form{})
			for _, x := range in {
				if x.DType == tensor.I32 {
					x.I32()[1] = bad
				}
			}
			if _, err := run(b, g, in, false); !errors.Is(err, framework.ErrInput) {
				t.Errorf("%v with %d: %v, want %v", c.sample, bad, err, framework.ErrInput)
			}
		}
		again, err := run(b, g, good, false)
		if err != nil || !bytes.Equal(again[0].Data, want[0].Data) {
			t.Errorf("%v after an error: %v", c.sample, err)
		}
	}
}

// Lists of up to 32 rows are added in their order, as the scalar backend adds
// them in float32; which list is longer has no bearing on the others.
func TestRowsThatMeetAreAddedInTheirOrder(t *testing.T) {
	b := device(t, engine.F32)
	ref, err := scalar.Open(framework.Options{})
	must(t, err)
	defer func() { must(t, ref.Close()) }()
	s := sample{"scatteradd", graph.LenAttr{N: 9}, []operand{f32(90, 8), i32(1, 9, 90)}}
	in := s.tensors(form{})
	for i := 20; i < 60; i++ {
		in[1].I32()[i] = 3 // more than 32
	}
	g := s.graph(t, form{})
	want, err := run(ref, g, in, false)
	must(t, err)
	got, err := run(b, g, in, false)
	must(t, err)
	for i, w := range want[0].F32() {
		if v := got[0].F32()[i]; i/8 != 3 && v != w || math.Abs(float64(v-w)) > 1e-5 {
			t.Errorf("row %d: %v, want %v", i/8, v, w)
		}
	}
}

// A row has the same bits alone as among others: decoding equals the whole
// sequence.
func TestARowHasTheSameBitsAloneAsAmongOthers(t *testing.T) {
	b := device(t, engine.F32)
	const n = 2060 // more than where streams are spread over fewer threads
	for _, s := range []func(n int) sample{
		func(n int) sample {
			return sample{"rmsnorm", graph.NormAttr{Eps: 1e-6}, []operand{f32(n, 36), f32(36)}}
		},
		func(n int) sample { return sample{"int8", nil, []operand{f32(n, 9)}} },
		func(n int) sample { return sample{"streamread", nil, []operand{f32(n, 2, 4), f32(2)}} },
		func(n int) sample {
			return sample{"streamwrite", nil, []operand{f32(n, 2, 4), f32(n, 4), f32(2, 2), f32(2)}}
		},
		func(n int) sample { return sample{"crossentropy", nil, []operand{f32(n, 7), i32(0, 7, n)}} },
	} {
		many, few := s(n), s(3)
		in := many.tensors(form{})
		whole, err := run(b, many.graph(t, form{}), in, false)
		must(t, err)
		for i, o := range few.in { // the first three rows
			if !o.Type.Equal(many.in[i].Type) {
				in[i] = &tensor.Tensor{Type: o.Type, Data: in[i].Data[:o.Bytes()]}
			}
		}
		alone, err := run(b, few.graph(t, form{}), in, false)
		must(t, err)
		if !bytes.Equal(alone[0].Data, whole[0].Data[:len(alone[0].Data)]) {
			t.Errorf("%v: other bits than among %d", few, n)
		}
	}
}

// Equal streams that a matrix treats alike stay equal, and so do their gradients.
func TestStreamsThatAreTreatedAlikeStayEqual(t *testing.T) {
	b := device(t, engine.F32)
	for _, dims := range [][3]int{{37, 2, 12}, {37, 4, 36}, {9, 8, 8}, {37, 3, 8}, {37, 4, 7}} {
		N, S, C := dims[0], dims[1], dims[2]
		circle := func(x *tensor.Tensor) { // h_ij is a function of j - i
			for i := range S * S {
				x.F32()[i] = x.F32()[(i%S-i/S+S)%S]
			}
		}
		same := func(x *tensor.Tensor, n, c int) { // all streams are the first
			for i := range x.F32() {
				x.F32()[i] = x.F32()[i/(n*c)*n*c+i%c]
			}
		}
		s := sample{"streamwrite.vjp", nil, []operand{f32(N, S, C), f32(N, C), f32(S, S), f32(S), f32(N, S, C)}}
		in := s.tensors(form{})
		same(in[0], S, C)
		circle(in[2])
		same(in[3], S, 1)
		same(in[4], S, C)
		grads, err := run(b, s.graph(t, form{}), in, false)
		must(t, err)
		w := sample{"streamwrite", nil, s.in[:4]}
		next, err := run(b, w.graph(t, form{}), in[:4], false)
		must(t, err)
		for what, x := range map[string]struct {
			*tensor.Tensor
			n, c int
		}{"streams": {next[0], S, C}, "ds": {grads[0], S, C}, "dh": {grads[2], S * S, 1}, "dpost": {grads[3], S, 1}} {
			all := x.Clone()
			same(all, x.n, x.c)
			if !bytes.Equal(all.Data, x.Data) {
				t.Errorf("%d streams of %d: %s differ", S, C, what)
			}
		}
	}
}

func TestASecondRunHasTheSameBits(t *testing.T) {
	b := device(t, engine.F32)
	s := sample{"scatteradd", graph.LenAttr{N: 5}, []operand{f32(200, 8), i32(0, 5, 200)}}
	g, in := s.graph(t, form{}), s.tensors(form{})
	e, err := b.Compile(context.Background(), g)
	must(t, err)
	store, err := b.NewStore()
	must(t, err)
	var last []byte
	for range 3 { // what a run leaves in working memory must not matter
		out := tensor.New(g.Outputs[0].Value.Type())
		must(t, e.Run(context.Background(), store, in, []*tensor.Tensor{out}))
		if last != nil && !bytes.Equal(last, out.Data) {
			t.Error("other bits in a later run")
		}
		last = out.Data
	}
	must(t, e.Close())
	must(t, store.Close())
}

// Rows of as many columns as streams may be the matrices that mix them, in one
// memory, which the result then takes.
func TestMatricesThatAreTheStreamsThemselvesAreReadBeforeTheyAreOverwritten(t *testing.T) {
	b := device(t, engine.F32, "order=reverse")
	for _, op := range []string{"streamwrite", "streamwrite.vjp"} {
		for _, S := range []int{1, 2, 3, 4, 8} {
			s := sample{op, nil, []operand{f32(9, S, S), f32(9, S), f32(9, S, S), f32(9, S), f32(9, S, S)}[:graph.Lookup(op).Arity]}
			in := s.tensors(form{})
			matrix, like := 2, 0
			if op == "streamwrite.vjp" {
				like = 4 // the cotangent, which its result may lie over
			}
			in[matrix] = in[like]
			g, err := graph.Trace(func(b *graph.Builder) {
				var x []graph.Value
				for i, o := range s.in {
					x = append(x, b.Scale(b.Input(string(rune('a'+i)), o.DType, o.Shape...), 1))
				}
				x[matrix] = x[like]
				for i, y := range b.Apply(graph.Lookup(op), nil, x...) {
					b.Output(string(rune('p'+i)), y)
				}
			})
			must(t, err)
			want, err := run(b, s.graph(t, form{}), in, false)
			must(t, err)
			got, err := run(b, g, in, false)
			must(t, err)
			for i := range want {
				if !bytes.Equal(got[i].Data, want[i].Data) {
					t.Errorf("%s of %d streams: result %d has other bits", op, S, i)
				}
			}
		}
	}
}
