package joined

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// sample is products of the same rows.
type sample struct {
	n, k     int
	ms       []int // rows of the weights
	group    int   // columns that share a scale; 0: all elements do
	codes    tensor.DType
	from     source
	streams  int // that rows are read from, or results mixed into
	byToken  bool
	picked   bool
	to       end
	h, kv, d int // of heads
	len      int
	cache    tensor.DType
}

func (s sample) String() string {
	return fmt.Sprintf("%d rows of %d by %v of %v, from %d to %d, %d streams", s.n, s.k, s.ms, s.codes, s.from, s.to, s.streams)
}

// books are the levels of codes; bytes are their own.
var books = map[tensor.DType][]int8{tensor.U1: {-1, 1}, tensor.U2: {-1, 0, 1}, tensor.U4: {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}}

// coefficients declares those of streams.
func (s sample) coefficients(b *graph.Builder, name string, n int, dims ...int) graph.Value {
	if s.byToken {
		dims = append([]int{n}, dims...)
	}
	return b.Input(name, tensor.F32, dims...)
}

// x declares what the rows are made of, and makes them.
func (s sample) x(b *graph.Builder) graph.Value {
	n := s.n
	if s.picked {
		n += 3
	}
	var x graph.Value
	switch s.from {
	case plain:
		return b.Input("x", tensor.F32, n, s.k)
	case gated:
		return b.SwiGLU(b.Input("x", tensor.F32, n, s.k), b.Input("up", tensor.F32, n, s.k))
	case normed:
		x = b.Input("x", tensor.F32, n, s.k)
	case read:
		x = b.StreamRead(b.Input("x", tensor.F32, n, s.streams, s.k), s.coefficients(b, "pre", n, s.streams))
	}
	x = b.RMSNorm(x, b.Input("gain", tensor.F32, s.k), 1e-5)
	if s.picked {
		x = b.Gather(x, b.Input("ids", tensor.I32, s.n))
	}
	return x
}

func (s sample) graph(t *testing.T) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) {
		x := s.x(b)
		var ys []graph.Value
		for i, m := range s.ms {
			scales := []int{1, 1}
			if s.group > 0 {
				scales = []int{m, s.k / s.group}
			}
			codes := b.Input(fmt.Sprintf("codes%d", i), s.codes, m, s.k)
			ys = append(ys, b.CodeBookMatMul(x, codes, b.Input(fmt.Sprintf("scales%d", i), tensor.F32, scales...), graph.LinearAttr{Levels: books[s.codes], ActBits: 8}))
		}
		s.leave(b, ys)
	})
	must(t, err)
	return g
}

func (s sample) leave(b *graph.Builder, ys []graph.Value) {
	switch s.to {
	case stored:
		for i, y := range ys {
			b.Output(fmt.Sprintf("y%d", i), y)
		}
	case added:
		b.Output("y", b.Add(ys[0], b.Input("s", tensor.F32, s.n, s.ms[0])))
	case mixed:
		st := b.Input("s", tensor.F32, s.n, s.streams, s.ms[0])
		b.Output("y", b.StreamWrite(st, ys[0], s.coefficients(b, "h", s.n, s.streams, s.streams), s.coefficients(b, "post", s.n, s.streams)))
	case heads:
		B, pos, turns := s.n/s.len, b.Input("pos", tensor.I32, s.n/s.len), graph.RoPEAttr{Theta: 1e4}
		k := b.ScaledRoPE(b.Reshape(ys[1], B, s.len, s.kv, s.d), pos, turns)
		for i, v := range []graph.Value{k, b.Reshape(ys[2], B, s.len, s.kv, s.d)} {
			c := b.GlobalBuffer([]string{"keys", "values"}[i], tensor.T(s.cache, B, 5, s.kv, s.d))
			all := b.UpdateAt(c, v, pos, 1)
			b.Update(c, all)
			if s.cache == tensor.F32 {
				b.Output(fmt.Sprintf("cache%d", i), b.Scale(all, 2))
			}
		}
		b.Output("q", b.Scale(b.ScaledRoPE(b.Reshape(ys[0], B, s.len, s.h, s.d), pos, turns), 2))
	}
}

// tensors makes the operands: the last row of x has an infinity if told.
func (s sample) tensors(g *graph.Graph, special bool) []*tensor.Tensor {
	var all []*tensor.Tensor
	for _, n := range g.Inputs {
		x := random(n.Name(), n.Out[0])
		for i := range n.Out[0].Shape.Numel() {
			switch name := n.Name(); {
			case name == "pos":
				binary.LittleEndian.PutUint32(x.Data[4*i:], uint32(i%(6-s.len)))
			case name == "ids":
				binary.LittleEndian.PutUint32(x.Data[4*i:], uint32((i*2+1)%(s.n+3)))
			case name == "x" && special && i == n.Out[0].Shape.Numel()-1:
				binary.LittleEndian.PutUint32(x.Data[4*i:], math.Float32bits(float32(math.Inf(1))))
			}
		}
		all = append(all, x)
	}
	return all
}

var samples = []sample{
	{n: 1, k: 64, ms: []int{5, 8, 3}, group: 32, codes: tensor.U2},
	{n: 4, k: 64, ms: []int{5, 1}, group: 64, codes: tensor.U2},
	{n: 8, k: 96, ms: []int{7, 2, 9}, codes: tensor.U4},
	{n: 1, k: 96, ms: []int{9}, group: 32, codes: tensor.U1, from: gated},
	{n: 2, k: 2080, ms: []int{4}, group: 32, codes: tensor.U2, from: gated, to: added},
	{n: 5, k: 96, ms: []int{9}, codes: tensor.U2, from: gated, to: added},
	{n: 1, k: 1056, ms: []int{3}, group: 96, codes: tensor.U2, from: normed},
	{n: 3, k: 4096, ms: []int{3}, group: 128, codes: tensor.U2, from: normed},
	{n: 2, k: 2080, ms: []int{3}, group: 32, codes: tensor.I8, from: normed, picked: true},
	{n: 6, k: 64, ms: []int{3}, group: 32, codes: tensor.U2, from: read, streams: 4, byToken: true, picked: true},
	{n: 1, k: 64, ms: []int{3, 4}, group: 32, codes: tensor.U2, from: read, streams: 8},
	{n: 2, k: 1056, ms: []int{3, 4}, group: 32, codes: tensor.U2, from: read, streams: 2, byToken: true},
	{n: 3, k: 64, ms: []int{12}, group: 32, codes: tensor.U2, to: mixed, streams: 8, byToken: true},
	{n: 1, k: 64, ms: []int{4}, group: 32, codes: tensor.U2, to: mixed, streams: 1},
	{n: 2, k: 64, ms: []int{4}, group: 32, codes: tensor.U2, from: gated, to: mixed, streams: 4},
	{n: 2, k: 9632, ms: []int{4}, group: 32, codes: tensor.U2, from: gated, to: mixed, streams: 4},
	{n: 1, k: 64, ms: []int{18, 6, 6}, group: 32, codes: tensor.U2, from: normed, to: heads, h: 3, kv: 1, d: 6, len: 1, cache: tensor.F32},
	{n: 6, k: 64, ms: []int{8, 4, 4}, group: 32, codes: tensor.U2, from: read, streams: 2, to: heads, h: 4, kv: 2, d: 2, len: 3, cache: tensor.F16},
}

// joinedNodes are the joined nodes of a plan.
func joinedNodes(t *testing.T, b *engine.Backend, g *graph.Graph) (all []*product) {
	t.Helper()
	p, err := b.Plan(g)
	must(t, err)
	for _, n := range p.Graph.Nodes {
		if a, ok := n.Attr.(*product); ok {
			all = append(all, a)
		} else if n.Op == opCodes {
			t.Errorf("a product was left")
		}
	}
	return all
}

// A joined product has the bits of the single kernels, of rows that are not finite too.
func TestAJoinedProductHasTheSameBits(t *testing.T) {
	d := cudatest.Open(t, engine.F32)
	for _, s := range samples {
		t.Run(s.String(), func(t *testing.T) {
			g := s.graph(t)
			one, all := backend(d, true), backend(d, false)
			if p := joinedNodes(t, one, g); len(p) != 1 || p[0].From != s.from || p[0].To != s.to || p[0].Picked != s.picked || p[0].Weights != len(s.ms) {
				t.Fatalf("joined to %+v", p)
			}
			for _, special := range []bool{false, true} {
				a, b := newSession(t, one), newSession(t, all)
				in := s.tensors(g, special)
				got, want := a.run(t, g, in...), b.run(t, g, in...)
				for i := range got {
					if !bytes.Equal(got[i].Data, want[i].Data) {
						t.Errorf("special %v: result %d is %v, want %v", special, i, got[i].Floats(), want[i].Floats())
					}
					if !special && !finite(got[i].Data) {
						t.Errorf("result %d is no numbers", i)
					}
				}
				for _, u := range g.Updates {
					x, err := a.s.Get(context.Background(), u.State.Name())
					must(t, err)
					y, err := b.s.Get(context.Background(), u.State.Name())
					must(t, err)
					if !bytes.Equal(x.Data, y.Data) {
						t.Errorf("%s differs", u.State.Name())
					}
				}
			}
		})
	}
}

// No result depends on the order of blocks and threads: no barrier is missing.
func TestTheOrderOfThreadsDoesNotShow(t *testing.T) {
	if cudatest.Real() {
		t.Skip("a device has an order of its own")
	}
	many := []sample{samples[0], samples[4], samples[9], samples[len(samples)-1]}
	var want [][]*tensor.Tensor
	for _, order := range []string{"forward", "reverse", "shuffle"} {
		b := backend(cudatest.Open(t, engine.F32, "order="+order), true)
		for i, s := range many {
			g := s.graph(t)
			got := newSession(t, b).run(t, g, s.tensors(g, false)...)
			if order == "forward" {
				want = append(want, got)
				continue
			}
			for k := range got {
				if !bytes.Equal(got[k].Data, want[i][k].Data) {
					t.Errorf("%v, %s: result %d differs", s, order, k)
				}
			}
		}
	}
}

// What reads an inner value keeps it, and what is of no use is left alone.
func TestWhatIsReadElsewhereStays(t *testing.T) {
	d := cudatest.Open(t, engine.F32)
	attr := graph.LinearAttr{Levels: books[tensor.U2], ActBits: 8}
	weight := func(b *graph.Builder, name string, m, k int) (codes, scales graph.Value) {
		return b.Input(name, tensor.U2, m, k), b.Input(name+"s", tensor.F32, m, 1)
	}
	for _, c := range []struct {
		what string
		make func(b *graph.Builder)
		want map[string]int
	}{
		{"a norm that is a result", func(b *graph.Builder) {
			x := b.RMSNorm(b.Input("x", tensor.F32, 1, 32), b.Input("g", tensor.F32, 32), 1e-5)
			w, s := weight(b, "w", 4, 32)
			b.Output("x", x)
			b.Output("y", b.CodeBookMatMul(x, w, s, attr))
		}, map[string]int{"rmsnorm": 1, "codebookmatmul": 1}},
		{"a product that is added to itself", func(b *graph.Builder) {
			w, s := weight(b, "w", 4, 32)
			y := b.CodeBookMatMul(b.Input("x", tensor.F32, 1, 32), w, s, attr)
			b.Output("y", b.Add(y, y))
		}, map[string]int{"codebookmatmul": 1, "fused": 1}},
		{"coefficients that come of the product", func(b *graph.Builder) {
			w, s := weight(b, "w", 4, 32)
			y := b.CodeBookMatMul(b.Input("x", tensor.F32, 1, 32), w, s, attr)
			post := b.Sigmoid(b.Slice(y, 1, 0, 2))
			b.Output("y", b.StreamWrite(b.Input("s", tensor.F32, 1, 2, 4), y, b.Input("h", tensor.F32, 2, 2), post))
		}, map[string]int{"codebookmatmul": 1, "streamwrite": 1, "fused": 1}},
		{"nine rows", func(b *graph.Builder) {
			w, s := weight(b, "w", 4, 32)
			b.Output("y", b.CodeBookMatMul(b.SwiGLU(b.Input("x", tensor.F32, 9, 32), b.Input("u", tensor.F32, 9, 32)), w, s, attr))
		}, map[string]int{"codebookmatmul.int8": 1, "swiglu.int8": 1}},
		{"four weights", func(b *graph.Builder) {
			x := b.Input("x", tensor.F32, 1, 32)
			for i := range 4 {
				w, s := weight(b, fmt.Sprintf("w%d", i), 4, 32)
				b.Output(fmt.Sprintf("y%d", i), b.CodeBookMatMul(x, w, s, attr))
			}
		}, map[string]int{"joined.product": 1, "codebookmatmul": 1}},
		{"a product of a product", func(b *graph.Builder) {
			w, s := weight(b, "w", 32, 32)
			y := b.CodeBookMatMul(b.Input("x", tensor.F32, 1, 32), w, s, attr)
			b.Output("y", b.Add(b.CodeBookMatMul(y, w, s, attr), y))
		}, map[string]int{"joined.product": 1, "codebookmatmul": 1}},
	} {
		g, err := graph.Trace(c.make)
		must(t, err)
		_, by := count(t, backend(d, true), g)
		if fmt.Sprint(by) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.what, by, c.want)
		}
	}
}

func TestAPositionOrARowOutOfRangeIsAnErrorOfTheRun(t *testing.T) {
	d := cudatest.Open(t, engine.F32)
	for name, s := range map[string]sample{"pos": samples[len(samples)-1], "ids": samples[8]} {
		g := s.graph(t)
		in := s.tensors(g, false)
		for i, n := range g.Inputs {
			if n.Name() == name {
				binary.LittleEndian.PutUint32(in[i].Data, 1000)
			}
		}
		b := newSession(t, backend(d, true))
		e, err := b.b.Compile(context.Background(), g)
		must(t, err)
		var out []*tensor.Tensor
		for _, o := range g.Outputs {
			out = append(out, tensor.New(o.Value.Type()))
		}
		if err := e.Run(context.Background(), b.s, in, out); !errors.Is(err, framework.ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Many rows are written to streams, read, normed and rounded by one kernel, where the
// coefficients of reading are no results of it.
func TestManyRowsHaveTheSameBits(t *testing.T) {
	d := cudatest.Open(t, engine.F32)
	for _, c := range []struct {
		n, k, streams int
		byToken       bool
		after         bool // coefficients of reading come of what was written
		want          map[string]int
	}{
		{9, 64, 1, false, false, map[string]int{"codebookmatmul.int8": 1, "joined.written": 1}},
		{11, 36, 2, true, false, map[string]int{"codebookmatmul.int8": 1, "joined.written": 1}},
		{10, 1056, 4, false, false, map[string]int{"codebookmatmul.int8": 1, "joined.written": 1}},
		{9, 600, 8, true, false, map[string]int{"codebookmatmul.int8": 1, "joined.written": 1}},
		{9, 8, 2, false, false, map[string]int{"codebookmatmul.int8": 1, "joined.read": 1, "streamwrite": 1}},
		{9, 64, 2, true, true, map[string]int{"codebookmatmul.int8": 1, "joined.read": 1, "streamwrite": 1, "fused": 1}},
	} {
		s := sample{n: c.n, k: c.k, streams: c.streams, byToken: c.byToken, len: 1}
		g, err := graph.Trace(func(b *graph.Builder) {
			h, post := s.coefficients(b, "h", c.n, c.streams, c.streams), s.coefficients(b, "post", c.n, c.streams)
			w := b.StreamWrite(b.Scale(b.Input("x", tensor.F32, c.n, c.streams, c.k), 1), b.Input("y", tensor.F32, c.n, c.k), h, post)
			pre := s.coefficients(b, "pre", c.n, c.streams)
			if c.after {
				pre = b.Add(pre, b.Reshape(b.AMax(w, 2), c.n, c.streams))
			}
			x := b.RMSNorm(b.StreamRead(w, pre), b.Input("gain", tensor.F32, c.k), 1e-5)
			b.Output("z", b.CodeBookMatMul(x, b.Input("codes", tensor.U2, 5, c.k), b.Input("scales", tensor.F32, 1, 1), graph.LinearAttr{Levels: books[tensor.U2], ActBits: 8}))
			b.Output("w", b.Scale(w, 1))
		})
		must(t, err)
		one, all := backend(d, true), backend(d, false)
		_, by := count(t, one, g)
		if by["fused"] -= 2; by["fused"] == 0 { // those of the test itself
			delete(by, "fused")
		}
		if fmt.Sprint(by) != fmt.Sprint(c.want) {
			t.Errorf("%+v: %v", c, by)
		}
		for _, special := range []bool{false, true} {
			in := s.tensors(g, special)
			got, want := newSession(t, one).run(t, g, in...), newSession(t, all).run(t, g, in...)
			for i := range got {
				if !bytes.Equal(got[i].Data, want[i].Data) {
					t.Errorf("%+v, special %v: result %d differs", c, special, i)
				}
			}
		}
	}
}

// Random shapes of all that can be joined.
func TestRandomProductsHaveTheSameBits(t *testing.T) {
	d := cudatest.Open(t, engine.F32)
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		s := sample{n: 1 + r.IntN(8), k: 32 * (1 + r.IntN(6)), codes: tensor.U2, group: 32, from: source(r.IntN(4)), to: end(r.IntN(3)), byToken: r.IntN(2) == 0}
		s.streams = 1 << r.IntN(4)
		s.ms = []int{4 * (1 + r.IntN(9))}
		if s.to == stored {
			s.ms = append(s.ms, 1+r.IntN(9))
		}
		s.picked = s.from >= normed && r.IntN(2) == 0
		if s.to == mixed && s.from == read && s.picked { // two sets of coefficients by token are of as many rows
			s.picked = false
		}
		g := s.graph(t)
		in := s.tensors(g, false)
		a, b := newSession(t, backend(d, true)), newSession(t, backend(d, false))
		got, want := a.run(t, g, in...), b.run(t, g, in...)
		for i := range got {
			if !bytes.Equal(got[i].Data, want[i].Data) {
				t.Errorf("%v: result %d differs", s, i)
			}
		}
	}
}

// Values of bf16 are read and written where the plan has them: rows, what gates them,
// streams and results.
func TestNarrowValuesAreTaken(t *testing.T) {
	d := cudatest.Open(t, engine.BF16)
	const N, C = 8, 512
	attr := graph.LinearAttr{Levels: books[tensor.U2], ActBits: 8}
	for what, leave := range map[string]func(b *graph.Builder, rows func(string, int) graph.Value) graph.Value{
		"streams": func(b *graph.Builder, rows func(string, int) graph.Value) graph.Value {
			st, h := b.Reshape(rows("s", 2*C), N, 2, C), b.Input("h", tensor.F32, 2, 2)
			x := b.RMSNorm(b.StreamRead(st, b.Input("pre", tensor.F32, 2)), b.Input("gain", tensor.F32, C), 1e-5)
			y := b.CodeBookMatMul(x, b.Input("codes", tensor.U2, C, C), b.Input("scales", tensor.F32, C, 1), attr)
			return b.StreamWrite(st, y, h, b.Input("post", tensor.F32, 2))
		},
		"gates": func(b *graph.Builder, rows func(string, int) graph.Value) graph.Value {
			x := b.SwiGLU(rows("gate", C), rows("up", C))
			return b.Add(b.CodeBookMatMul(x, b.Input("codes", tensor.U2, C, C), b.Input("scales", tensor.F32, C, 1), attr), rows("s", C))
		},
	} {
		g, err := graph.Trace(func(b *graph.Builder) {
			rows := func(name string, width int) graph.Value {
				return b.Gather(b.Input(name, tensor.F32, N, width), b.Input("of."+name, tensor.I32, N))
			}
			v := leave(b, rows)
			b.Output("y", b.Scale(v, 1))
		})
		must(t, err)
		narrow := uint(0)
		p, err := backend(d, true).Plan(g)
		must(t, err)
		for _, n := range p.Graph.Nodes {
			if n.Op == opProduct {
				for i, v := range n.In {
					if v.Type().DType == tensor.BF16 {
						narrow |= 1 << i
					}
				}
				if n.Out[0].DType == tensor.BF16 {
					narrow |= 1 << len(n.In)
				}
			}
		}
		if want := map[string]uint{"streams": 1 | 1<<5 | 1<<8, "gates": 3 | 1<<4 | 1<<5}[what]; narrow != want {
			t.Errorf("%s: values %b are bf16, want %b", what, narrow, want)
		}
		reference, err := framework.Backends.Open("scalar")
		must(t, err)
		in := sample{n: N, len: 1}.tensors(g, false)
		for i, n := range g.Inputs {
			if n.Out[0].DType == tensor.I32 {
				for k := range N {
					binary.LittleEndian.PutUint32(in[i].Data[4*k:], uint32(N-1-k))
				}
			}
		}
		got, want := newSession(t, backend(d, true)).run(t, g, in...), newSession(t, reference).run(t, g, in...)
		if e := distance(got[0].Data, want[0].Data); e > 0.02 {
			t.Errorf("%s: %.1e from the scalar backend's", what, e)
		}
	}
}
