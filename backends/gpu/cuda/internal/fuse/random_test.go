package fuse

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cu"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// maker grows a random graph of primitives, with a composite here and there that
// is no part of a chain. intn draws a number below n.
type maker struct {
	b    *graph.Builder
	intn func(n int) int
	pool []graph.Value
	made int
}

func (m *maker) pick() graph.Value {
	n := len(m.pool)
	return m.pool[max(m.intn(n), m.intn(n))]
}

func (m *maker) name(kind string) string {
	m.made++
	return fmt.Sprint(kind, m.made)
}

// like is a value of x's shape.
func (m *maker) like(x graph.Value) graph.Value {
	for range 4 {
		if y := m.pick(); y.Shape().Equal(x.Shape()) {
			return y
		}
	}
	return m.b.Input(m.name("x"), tensor.F32, x.Shape()...)
}

// narrow is a value that is broadcast to x's shape.
func (m *maker) narrow(x graph.Value) graph.Value {
	s := slices.Clone(x.Shape())
	for d := range s {
		if m.intn(2) == 0 {
			s[d] = 1
		}
	}
	return m.b.Input(m.name("x"), tensor.F32, s...)
}

// grow appends a step. Values are f32 of three dimensions, and stay small.
func (m *maker) grow() graph.Value {
	b, x := m.b, m.pick()
	axis := m.intn(3)
	n := x.Dim(axis)
	switch m.intn(24) {
	case 0:
		return b.Add(x, m.like(x))
	case 1:
		return b.Sub(m.like(x), m.narrow(x))
	case 2:
		return b.Mul(x, b.Sigmoid(m.like(x)))
	case 3:
		return b.Div(x, b.Add(b.Like(x, 1.5), b.Cos(m.narrow(x))))
	case 4:
		return b.Max(b.Scale(x, 0.7), m.narrow(x))
	case 5:
		return b.Min(b.Abs(x), m.like(x))
	case 6:
		return b.Where(b.Less(m.like(x), b.Like(x, 0.3)), x, b.Sin(x))
	case 7:
		return b.Add(b.Exp(b.Neg(b.Abs(x))), b.Mean(x, axis))
	case 8:
		return b.Mul(b.Rsqrt(b.Add(b.Mul(x, x), b.Like(x, 1))), b.AMax(x, axis))
	case 9:
		return b.Log(b.Add(b.Sqrt(b.Abs(x)), b.Like(x, 1)))
	case 10, 11:
		return b.Softmax(x) // no primitive: it stays as it is
	case 12:
		return b.Transpose(x, [][]int{{1, 0, 2}, {2, 1, 0}, {0, 2, 1}, {1, 2, 0}}[m.intn(4)]...)
	case 13:
		return b.Reshape(x, x.Dim(1), x.Dim(2), x.Dim(0))
	case 14:
		lo := m.intn(n)
		return b.Slice(x, axis, lo, lo+1+m.intn(n-lo))
	case 15:
		return b.Concat(axis, x, m.like(x))
	case 16:
		return b.Pad(x, axis, m.intn(3), m.intn(3))
	case 17:
		e := b.Exp(b.Sub(x, b.AMax(x, axis)))
		return b.Div(e, b.Sum(e, axis))
	case 18:
		return b.Broadcast(b.Mean(x, axis), x.Shape())
	case 19:
		return b.Cast(b.Cast(b.Equal(b.Round(x), b.Like(x, 0)), tensor.F32), tensor.F32)
	case 20:
		return b.Through(b.Scale(x, -1), x)
	case 21:
		return b.Mul(x, b.Reshape(b.Iota(x.Dim(2)), 1, 1, x.Dim(2)))
	case 22:
		return b.Broadcast(b.Reshape(b.Scale(b.SumAll(x), 1/float64(x.Shape().Numel())), 1, 1, 1), tensor.Shape{2, 2, 4})
	}
	return b.Scale(x, 0.5)
}

// random makes a graph with outputs, and with states that it updates.
func random(b *graph.Builder, intn func(n int) int) {
	m := &maker{b: b, intn: intn}
	sizes := []int{1, 2, 3, 4, 5, 8, 12}
	for range 3 {
		m.pool = append(m.pool, b.Input(m.name("x"), tensor.F32, sizes[intn(7)], sizes[intn(7)], sizes[intn(7)]))
	}
	states := []graph.Value{}
	for range intn(3) {
		s := b.Buffer(m.name("s"), tensor.T(tensor.F32, sizes[intn(7)], sizes[intn(7)], sizes[intn(7)]))
		states, m.pool = append(states, s), append(m.pool, s)
	}
	for range 4 + intn(16) {
		if v := m.grow(); v.Shape().Numel() <= 2000 {
			m.pool = append(m.pool, v)
		}
	}
	for i, v := range m.pool[len(m.pool)-min(4, len(m.pool)):] {
		b.Output(fmt.Sprint("y", i), v)
	}
	for _, s := range states {
		b.Update(s, b.Add(s, b.Sin(m.like(s))))
	}
}

const randomBound = 1e-8

// Fused graphs compute what they did before, by the interpreter and by kernels of
// their own, which agree to the bit.
func TestRandomGraphsAreTheSameFused(t *testing.T) {
	r := newRig(t)
	tape, own := New(Options{}), New(Options{Generate: true})
	const count = 30
	var plain, graphs []*graph.Graph
	for seed := range uint64(count) {
		rng := rand.New(rand.NewPCG(seed, 1))
		g := trace(t, func(b *graph.Builder) { random(b, rng.IntN) })
		g = trace(t, func(b *graph.Builder) { withoutStates(b, g) })
		plain, graphs = append(plain, g), append(graphs, fused(t, g))
	}
	r.compileAll(t, own, graphs...)
	for i, g := range plain {
		in := fill(g, uint64(i), false)
		want := reference(t, r.alone, g, in)
		got, same := r.run(t, tape, graphs[i], in), r.run(t, own, graphs[i], in)
		for k := range want {
			if e := nmse(got[k], want[k]); e > randomBound {
				t.Fatalf("graph %d, result %d: NMSE %.1e\n%v\n%v", i, k, e, g, graphs[i])
			}
			if !bytes.Equal(got[k].Data, same[k].Data) {
				t.Fatalf("graph %d, result %d: the interpreter and the kernel differ\n%v", i, k, graphs[i])
			}
		}
	}
}

// What a value is fused with changes no bit of it.
func TestBitsDoNotDependOnWhatIsFused(t *testing.T) {
	r, tape := newRig(t), New(Options{})
	graphs := []*graph.Graph{}
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 2))
		g := trace(t, func(b *graph.Builder) { random(b, rng.IntN) })
		graphs = append(graphs, trace(t, func(b *graph.Builder) { withoutStates(b, g) }))
	}
	for i, s := range samples() {
		if i%4 == 0 && len(s.graph(t).Inputs) < 9 {
			graphs = append(graphs, s.graph(t))
		}
	}
	for _, dims := range [][]int{{1, 40000}, {3000, 2}} { // rows that are cut
		graphs = append(graphs, trace(t, func(b *graph.Builder) {
			x := b.Input("x", tensor.F32, dims...)
			axis := 1 - dims[0]/3000
			b.Output("y", b.Div(x, b.Sqrt(b.Sum(b.Mul(x, x), axis))))
		}))
	}
	for i, g := range graphs {
		apart, err := newFusion(g).done()
		must(t, err)
		in := fill(g, uint64(i), false)
		want, got := r.run(t, tape, apart, in), r.run(t, tape, fused(t, g), in)
		for k := range want {
			if nmse(got[k], want[k]) != 0 {
				t.Fatalf("graph %d, result %d: %v, each node alone gives %v\n%v", i, k, floats(got[k]), floats(want[k]), g)
			}
		}
	}
}

// withoutStates has states as inputs, and their new values as outputs.
func withoutStates(b *graph.Builder, g *graph.Graph) {
	env := map[graph.Value]graph.Value{}
	for _, n := range g.Nodes {
		if n.IsState() {
			env[graph.Value{N: n}] = b.Input(n.Name(), n.Out[0].DType, n.Out[0].Shape...)
			continue
		}
		in := make([]graph.Value, len(n.In))
		for i, v := range n.In {
			in[i] = env[v]
		}
		m := b.Copy(n, in)
		env[graph.Value{N: n}] = graph.Value{N: m}
	}
	for _, o := range g.Outputs {
		b.Output(o.Name, env[o.Value])
	}
	for _, u := range g.Updates {
		b.Output("new."+u.State.Name(), env[u.Value])
	}
}

// softmaxCode stands for the kernels that are not of this package.
const softmaxCode = `
extern "C" __global__ void test_softmax(const float *x, float *y, int width) {
  x += (size_t)blockIdx.x * width, y += (size_t)blockIdx.x * width;
  float most = x[0], sum = 0;
  for (int i = 1; i < width; i++) most = x[i] > most ? x[i] : most;
  for (int i = 0; i < width; i++) sum += y[i] = expf(x[i] - most);
  for (int i = 0; i < width; i++) y[i] /= sum;
}`

func softmaxKernel() engine.Table {
	t := engine.Table{}
	t.Add("softmax", engine.Kernel{Bind: func(c *engine.Call) error {
		f, err := c.Device.Function(cu.Source("test_softmax.cu", softmaxCode), "test_softmax")
		if err != nil {
			return err
		}
		s := c.Node.Out[0].Shape
		width := s[len(s)-1]
		c.Launch(f, driver.Dim{X: s.Numel() / width}, driver.Dim{X: 1}, 0, c.In[0], c.Out[0], width)
		return nil
	}})
	return t
}

// Where values share memory, and new states are written over old ones, nothing
// changes either: runs of a backend agree with the reference, run after run.
func TestRandomGraphsAreTheSameInSharedMemory(t *testing.T) {
	r := newRig(t, "order=shuffle")
	device := engine.NewDevice(r.ctx, r.comp, nil, engine.F32)
	backend := engine.New(engine.Config{Name: "test", Device: device, Table: softmaxKernel(), Fuser: New(Options{})})
	rapid.Check(t, func(rt *rapid.T) {
		g := trace(rt, func(b *graph.Builder) {
			random(b, func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") })
		})
		in := fill(g, 5, false)
		want, wantStates := runTwice(rt, r.alone, g, in)
		got, states := runTwice(rt, backend, g, in)
		for k := range want {
			if e := nmse(got[k], want[k]); e > randomBound {
				rt.Fatalf("result %d: NMSE %.1e\n%v\n%v", k, e, g, fused(rt, g))
			}
		}
		for k := range wantStates {
			if e := nmse(states[k], wantStates[k]); e > randomBound {
				rt.Fatalf("state %d: NMSE %.1e\n%v\n%v", k, e, g, fused(rt, g))
			}
		}
	})
}

// runTwice returns the outputs of a second run, and the states after it.
func runTwice(t checker, b framework.Backend, g *graph.Graph, in []*tensor.Tensor) (out, states []*tensor.Tensor) {
	t.Helper()
	ctx := context.Background()
	s, err := b.NewStore()
	must(t, err)
	defer s.Close()
	exe, err := b.Compile(ctx, g)
	must(t, err)
	defer exe.Close()
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
	}
	for i := range 2 {
		if i == 1 {
			for _, n := range g.States { // other than zero
				x := tensor.New(n.Out[0])
				for k := range x.F32() {
					x.F32()[k] = float32(k%7) / 4
				}
				must(t, s.Put(ctx, n.Name(), x))
			}
		}
		must(t, exe.Run(ctx, s, in, out))
	}
	for _, u := range g.Updates {
		x, err := s.Get(ctx, u.State.Name())
		must(t, err)
		states = append(states, x)
	}
	return out, states
}
