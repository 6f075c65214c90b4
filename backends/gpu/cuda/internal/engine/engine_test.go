package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cu"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// source has kernels enough for tests of what is around them. Each takes either
// width.
const source = `
#include "tern.cuh"
extern "C" __global__ void test_add(const void *x, const void *y, void *z, size_t n, unsigned narrow) {
  size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) store(z, i, narrow & 4, load(x, i, narrow & 1) + load(y, i, narrow & 2));
}
extern "C" __global__ void test_scale(const void *x, void *y, size_t n, float by, unsigned narrow) {
  size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) store(y, i, narrow & 2, load(x, i, narrow & 1) * by);
}
extern "C" __global__ void test_gather(const float *table, const int *ids, void *out, int rows, int width, size_t n, unsigned narrow, int *failure, int node) {
  size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int id = ids[i / width];
  if (id < 0 || id >= rows) { fail(failure, node, id); return; }
  store(out, i, narrow & 4, table[(size_t)id * width + i % width]);
}
`

func table() engine.Table {
	src := cu.Source("test.cu", source)
	bind := func(name string, args func(c *engine.Call) []any) engine.Kernel {
		return engine.Kernel{
			Narrow: func(n *graph.Node) (in, out []bool) {
				in = slices.Repeat([]bool{n.Op.Name != "gather"}, len(n.In))
				return in, []bool{true}
			},
			Bind: func(c *engine.Call) error {
				f, err := c.Device.Function(src, name)
				if err != nil {
					return err
				}
				n := c.Node.Out[0].Shape.Numel()
				c.Launch(f, driver.Dim{X: (n + 127) / 128}, driver.Dim{X: 128}, 0, args(c)...)
				return nil
			},
		}
	}
	size := func(c *engine.Call) uint64 { return uint64(c.Node.Out[0].Shape.Numel()) }
	t := engine.Table{}
	t.Add("add", bind("test_add", func(c *engine.Call) []any { return []any{c.In[0], c.In[1], c.Out[0], size(c), c.Narrow()} }))
	t.Add("scale", bind("test_scale", func(c *engine.Call) []any {
		return []any{c.In[0], c.Out[0], size(c), float32(c.Node.Attr.(graph.ConstAttr).Value), c.Narrow()}
	}))
	t.Add("gather", bind("test_gather", func(c *engine.Call) []any {
		shape := c.Node.In[0].Shape()
		failure, node := c.Failure()
		return []any{c.In[0], c.In[1], c.Out[0], shape[0], shape[1], size(c), c.Narrow(), failure, node}
	}))
	return t
}

type rig struct {
	t *testing.T
	b *engine.Backend
	s framework.Store
}

func newRig(t *testing.T, p engine.Precision, settings ...string) *rig {
	t.Helper()
	b := cudatest.Backend(cudatest.Open(t, p, settings...), table(), nil)
	s, err := b.NewStore()
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return &rig{t, b, s}
}

func (r *rig) compile(fn func(b *graph.Builder)) framework.Executable {
	r.t.Helper()
	g, err := graph.Trace(fn)
	must(r.t, err)
	e, err := r.b.Compile(context.Background(), g)
	must(r.t, err)
	r.t.Cleanup(func() { must(r.t, e.Close()) })
	return e
}

func (r *rig) put(name string, v ...float32) {
	r.t.Helper()
	must(r.t, r.s.Put(context.Background(), name, floats(v...)))
}

func (r *rig) get(s framework.Store, name string) []float32 {
	r.t.Helper()
	x, err := s.Get(context.Background(), name)
	must(r.t, err)
	return x.F32()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func floats(v ...float32) *tensor.Tensor {
	x := tensor.New(tensor.T(tensor.F32, len(v)))
	copy(x.F32(), v)
	return x
}

var ctx = context.Background()

func TestAStepReadsInputsUpdatesStatesAndGivesOutputs(t *testing.T) {
	r := newRig(t, engine.F32)
	r.put("w", 1, 2, 3)
	e := r.compile(func(b *graph.Builder) {
		w, x := b.Param("w", graph.Init{}, 3), b.Input("x", tensor.F32, 3)
		seen := b.GlobalBuffer("seen", tensor.T(tensor.F32, 3))
		b.Update(seen, b.Add(seen, x))
		b.Update(w, b.Add(w, x))
		b.Output("old", w)
		b.Output("twice", b.Scale(x, 2))
	})
	old, twice := floats(0, 0, 0), floats(0, 0, 0)
	for i := range 3 {
		must(t, e.Run(ctx, r.s, []*tensor.Tensor{floats(10, 20, 30)}, []*tensor.Tensor{old, twice}))
		if want := float32(1 + 10*i); old.F32()[0] != want || twice.F32()[2] != 60 {
			t.Errorf("run %d: old %v, want %v first; twice %v", i, old.F32(), want, twice.F32())
		}
	}
	if w, seen := r.get(r.s, "w"), r.get(r.s, "seen"); !slices.Equal(w, []float32{31, 62, 93}) || !slices.Equal(seen, []float32{30, 60, 90}) {
		t.Errorf("w %v, seen %v", w, seen)
	}
}

func TestStatesThatAreSwappedBothChange(t *testing.T) {
	r := newRig(t, engine.F32)
	r.put("a", 1, 2)
	r.put("b", 3, 4)
	e := r.compile(func(b *graph.Builder) {
		x, y := b.Param("a", graph.Init{}, 2), b.Param("b", graph.Init{}, 2)
		b.Update(x, y)
		b.Update(y, x)
	})
	must(t, e.Run(ctx, r.s, nil, nil))
	if a, b := r.get(r.s, "a"), r.get(r.s, "b"); a[0] != 3 || b[1] != 2 {
		t.Errorf("a %v, b %v", a, b)
	}
}

func TestAForkWritesBesideItsParent(t *testing.T) {
	r := newRig(t, engine.F32)
	r.put("w", 1, 2)
	fork, err := r.s.Fork()
	must(t, err)
	e := r.compile(func(b *graph.Builder) {
		w := b.Param("w", graph.Init{}, 2)
		b.Update(w, b.Scale(w, 3))
	})
	must(t, e.Run(ctx, fork, nil, nil))
	must(t, e.Run(ctx, fork, nil, nil))
	if w, own := r.get(r.s, "w"), r.get(fork, "w"); w[1] != 2 || own[1] != 18 {
		t.Errorf("parent %v, fork %v", w, own)
	}
	must(t, fork.Close())
	if _, err := fork.Get(ctx, "w"); !errors.Is(err, framework.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A tensor of another type in place of an old one has other memory: what is
// bound to the old one binds again.
func TestAStateThatIsReplacedIsBoundAgain(t *testing.T) {
	r := newRig(t, engine.F32)
	r.put("w", 1, 2)
	e := r.compile(func(b *graph.Builder) { b.Output("y", b.Scale(b.Param("w", graph.Init{}, 2), 2)) })
	y := floats(0, 0)
	must(t, e.Run(ctx, r.s, nil, []*tensor.Tensor{y}))
	r.put("w", 1, 2, 3)
	if err := e.Run(ctx, r.s, nil, []*tensor.Tensor{y}); !errors.Is(err, framework.ErrMismatch) {
		t.Errorf("of another shape: %v", err)
	}
	r.put("w", 5, 6)
	must(t, e.Run(ctx, r.s, nil, []*tensor.Tensor{y}))
	if y.F32()[1] != 12 {
		t.Error(y.F32())
	}
}

func TestAnIndexOutOfRangeIsAnErrorThatNamesItsNode(t *testing.T) {
	r := newRig(t, engine.F32)
	must(t, r.s.Put(ctx, "t", &tensor.Tensor{Type: tensor.T(tensor.F32, 2, 2), Data: floats(1, 2, 3, 4).Data}))
	e := r.compile(func(b *graph.Builder) {
		b.In("embed", func() {
			b.Output("y", b.Gather(b.GlobalParam("t", graph.Init{}, 2, 2), b.Input("ids", tensor.I32, 1)))
		})
	})
	ids := tensor.New(tensor.T(tensor.I32, 1))
	y := tensor.New(tensor.T(tensor.F32, 1, 2))
	ids.I32()[0] = 7
	err := e.Run(ctx, r.s, []*tensor.Tensor{ids}, []*tensor.Tensor{y})
	if !errors.Is(err, framework.ErrInput) || !strings.Contains(err.Error(), "gather @embed: 7 is out of range") {
		t.Errorf("got %v", err)
	}
	ids.I32()[0] = 1
	must(t, e.Run(ctx, r.s, []*tensor.Tensor{ids}, []*tensor.Tensor{y}))
	if y.F32()[0] != 3 {
		t.Error(y.F32())
	}
}

// Activations are rounded to bf16 between kernels; what is added to a state is
// not, nor what leaves the graph, nor what no token had a part in.
func TestOnlyActivationsAreStoredAsBF16(t *testing.T) {
	const rows, width = 64, 64
	for precision, want := range map[engine.Precision]float32{engine.F32: 4.00390625, engine.BF16: 1.0009765625 + 3} {
		r := newRig(t, precision)
		embed := tensor.New(tensor.T(tensor.F32, 4, width))
		for i := range embed.F32() {
			embed.F32()[i] = 1.0009765625 // 1 + 2^-10; three times it is rounded to 3
		}
		must(t, r.s.Put(ctx, "t", embed))
		e := r.compile(func(b *graph.Builder) {
			table := b.Param("t", graph.Init{}, 4, width)
			x := b.Gather(table, b.Input("ids", tensor.I32, rows))
			sum := b.GlobalBuffer("sum", tensor.T(tensor.F32, rows, width))
			b.Output("y", b.Add(x, b.Scale(x, 3)))
			b.Update(sum, b.Add(sum, b.Scale(b.Scale(x, 0.5), 0.5)))
			b.Update(table, b.Scale(b.Scale(table, 2), 0.5))
		})
		ids, y := tensor.New(tensor.T(tensor.I32, rows)), tensor.New(tensor.T(tensor.F32, rows, width))
		must(t, e.Run(ctx, r.s, []*tensor.Tensor{ids}, []*tensor.Tensor{y}))
		if y.F32()[5] != want {
			t.Errorf("%s: %v, want %v", precision, y.F32()[5], want)
		}
		if got := r.get(r.s, "sum")[3]; got != 1.0009765625/4 {
			t.Errorf("%s: the sum became %v", precision, got)
		}
		if got := r.get(r.s, "t")[3]; got != 1.0009765625 {
			t.Errorf("%s: a weight became %v", precision, got)
		}
	}
}

func TestARunAllocatesNothing(t *testing.T) {
	r := newRig(t, engine.F32)
	r.put("w", 1, 2, 3)
	e := r.compile(func(b *graph.Builder) {
		w, x := b.Param("w", graph.Init{}, 3), b.Input("x", tensor.F32, 3)
		b.Update(w, b.Add(w, x))
		b.Output("y", b.Scale(x, 2))
	})
	in, out := []*tensor.Tensor{floats(1, 2, 3)}, []*tensor.Tensor{floats(0, 0, 0)}
	if n := testing.AllocsPerRun(20, func() { must(t, e.Run(ctx, r.s, in, out)) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFullMemoryIsSaidWithWhatToDo(t *testing.T) {
	if cudatest.Real() {
		t.Skip("needs a device that is full")
	}
	r := newRig(t, engine.F32, "oom=1048576")
	err := r.s.Put(ctx, "big", tensor.New(tensor.T(tensor.F32, 1<<20)))
	if !errors.Is(err, driver.ErrOutOfMemory) || !strings.Contains(strings.Join(errors.GetAllHints(err), " "), "--batch") {
		t.Errorf("got %v with hints %q", err, errors.GetAllHints(err))
	}
	r.put("small", 1)
}

func TestALostDeviceIsAnErrorOfTheRun(t *testing.T) {
	if cudatest.Real() {
		t.Skip("needs a device that is lost")
	}
	b := cudatest.Backend(openLost(t), table(), nil)
	s, err := b.NewStore()
	must(t, err)
	g, err := graph.Trace(func(b *graph.Builder) { b.Output("y", b.Scale(b.Input("x", tensor.F32, 2), 2)) })
	must(t, err)
	e, err := b.Compile(ctx, g)
	must(t, err)
	for range 3 {
		err = e.Run(ctx, s, []*tensor.Tensor{floats(1, 2)}, []*tensor.Tensor{floats(0, 0)})
	}
	if !errors.Is(err, driver.ErrDeviceLost) {
		t.Errorf("got %v", err)
	}
}

// openLost opens a device that is lost at the second launch, and that nobody can
// close without an error.
func openLost(t *testing.T) *engine.Device {
	t.Helper()
	d, err := engine.OpenDevice(engine.DeviceOptions{Libraries: cudatest.Libraries(t, "lost=2"), Cache: cudatest.Cache(t)})
	must(t, err)
	return d
}

func TestADeviceThatCannotBeUsedIsRefused(t *testing.T) {
	if cudatest.Real() {
		t.Skip("needs devices of other kinds")
	}
	for name, c := range map[string]struct {
		setting string
		ordinal int
		want    string
	}{
		"too old":       {"capability=75", 0, "compute capability 7.5"},
		"there is none": {"devices=2", 2, "device 2 of 2"},
		"negative":      {"devices=1", -1, "device -1 of 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := engine.OpenDevice(engine.DeviceOptions{Ordinal: c.ordinal, Libraries: cudatest.Libraries(t, c.setting)})
			if !errors.Is(err, engine.ErrDevice) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Coefficients that only follow parameters are computed when a parameter has
// changed, whether by Put or by a run, and not otherwise.
func TestWhatNoRunChangesIsComputedOnce(t *testing.T) {
	r := newRig(t, engine.F32)
	r.put("p", 1, 2)
	r.put("q", 10, 20)
	chain := func(b *graph.Builder) graph.Value {
		v := b.Add(b.Param("p", graph.Init{}, 2), b.Param("q", graph.Init{}, 2))
		for range 5 {
			v = b.Add(v, b.Scale(v, 1))
		}
		return v // 32 (p + q)
	}
	g, err := graph.Trace(func(b *graph.Builder) {
		v := chain(b)
		b.Output("y", b.Add(b.Input("x", tensor.F32, 2), v))
		b.Output("v", v)
	})
	must(t, err)
	p, err := r.b.Plan(g)
	must(t, err)
	if text := p.Graph.String(); strings.Count(text, " = add(")+strings.Count(text, " = scale(") != 1 {
		t.Errorf("a run of it computes more than one sum:\n%s", text)
	}
	e, err := r.b.Compile(ctx, g)
	must(t, err)
	grow := r.compile(func(b *graph.Builder) {
		p := b.Param("p", graph.Init{}, 2)
		b.Update(p, b.Scale(p, 2))
	})
	y, v := floats(0, 0), floats(0, 0)
	check := func(want0, want1 float32) {
		t.Helper()
		for range 2 {
			must(t, e.Run(ctx, r.s, []*tensor.Tensor{floats(1, 1)}, []*tensor.Tensor{y, v}))
			if got := y.F32(); got[0] != want0+1 || got[1] != want1+1 || v.F32()[1] != want1 {
				t.Errorf("%v and %v, want %v and %v", got, v.F32(), want0, want1)
			}
		}
	}
	check(32*11, 32*22)
	r.put("q", 0, 0)
	check(32, 64)
	must(t, grow.Run(ctx, r.s, nil, nil))
	check(64, 128)
	fork, err := r.s.Fork()
	must(t, err)
	must(t, grow.Run(ctx, fork, nil, nil)) // p is the fork's own now
	must(t, e.Run(ctx, fork, []*tensor.Tensor{floats(0, 0)}, []*tensor.Tensor{y, v}))
	if y.F32()[0] != 128 {
		t.Errorf("in the fork %v", y.F32())
	}
	check(64, 128)
	must(t, fork.Close())
	must(t, e.Close())
}

func TestAProfileTimesEveryNode(t *testing.T) {
	r := newRig(t, engine.F32)
	r.put("w", 1, 2)
	g, err := graph.Trace(func(b *graph.Builder) {
		x := b.Input("x", tensor.F32, 2)
		b.Output("y", b.Add(b.Scale(x, 2), b.Param("w", graph.Init{}, 2)))
	})
	must(t, err)
	times, err := r.b.Profile(ctx, g, r.s, []*tensor.Tensor{floats(1, 2)}, 3)
	must(t, err)
	if len(times) != 2 || times[0].Node.Op.Name != "scale" || times[1].Node.Op.Name != "add" || times[0].Took < 0 {
		t.Errorf("%+v", times)
	}
}

// accumulate is a kernel of matmul that by cuBLASLt adds y y to x itself, and returns
// x.
func accumulate(c *engine.Call) error {
	n := c.Node.In[0].Dim(0)
	square := driver.Matrix{Type: driver.F32, Rows: n, Cols: n, ColMajor: true}
	s := driver.MatmulSpec{A: square, B: square, D: square, Compute: driver.ComputeF32, Alpha: 1, Beta: 1}
	if err := c.Matmul(s, c.In[1], c.In[1], 0, c.In[0]); err != nil {
		return err
	}
	c.Copy(c.Out[0], c.In[0], 4*n*n)
	return nil
}

// A product is tried before it is captured, and what it adds to must not show that.
func TestTheFirstRunOfAProductChangesNoState(t *testing.T) {
	table := engine.Table{}
	table.Add("matmul", engine.Kernel{Bind: accumulate})
	b := cudatest.Backend(cudatest.Open(t, engine.F32), table, nil)
	s, err := b.NewStore()
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	r := &rig{t, b, s}
	must(t, s.Put(ctx, "x", tensor.FromF32([]float32{5, 0, 0, 5}, 2, 2)))
	must(t, s.Put(ctx, "y", tensor.FromF32([]float32{3, 0, 0, 3}, 2, 2)))
	e := r.compile(func(b *graph.Builder) {
		b.Output("z", b.MatMul(b.Param("x", graph.Init{}, 2, 2), b.Param("y", graph.Init{}, 2, 2), false, false))
	})
	z := tensor.New(tensor.T(tensor.F32, 2, 2))
	for _, want := range []float32{14, 23} {
		must(t, e.Run(ctx, s, nil, []*tensor.Tensor{z}))
		if got := z.F32(); !slices.Equal(got, []float32{want, 0, 0, want}) {
			t.Errorf("got %v, want %v on the diagonal", got, want)
		}
	}
}
