package fuse

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/kernel"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// checker is testing.T, or rapid.T.
type checker interface {
	Helper()
	Fatalf(format string, args ...any)
}

func must(t checker, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%+v", err)
	}
}

// rig runs fused graphs on a device, every value in memory of its own.
// Nodes that are no chains run on the reference backend.
type rig struct {
	ctx     *driver.Context
	stream  *driver.Stream
	comp    *kernel.Compiler
	modules map[string]*driver.Module
	alone   framework.Backend
}

func newRig(t testing.TB, settings ...string) *rig {
	t.Helper()
	search := cudatest.Libraries(t, settings...)
	d, err := driver.Open(search)
	must(t, err)
	nvrtc, err := driver.OpenNVRTC(search)
	must(t, err)
	devices, err := d.Devices()
	must(t, err)
	r := &rig{modules: map[string]*driver.Module{}, alone: scalar.Open64(1)}
	r.ctx, err = d.Retain(devices[0])
	must(t, err)
	t.Cleanup(func() { _ = r.ctx.Release() })
	r.stream, err = r.ctx.NewStream()
	must(t, err)
	r.comp, err = kernel.New(kernel.Options{NVRTC: nvrtc, Major: devices[0].Major, Minor: devices[0].Minor})
	must(t, err)
	return r
}

func (r *rig) load(t checker, s driver.Source, names ...string) {
	t.Helper()
	m, err := r.comp.Load(r.ctx, s, "--std=c++17")
	must(t, err)
	for _, n := range names {
		r.modules[n] = m
	}
}

// compileAll compiles the chains of all graphs as one module: the C++ compiler
// takes a second for each.
func (r *rig) compileAll(t checker, f *Fuser, graphs ...*graph.Graph) {
	t.Helper()
	all := map[string]driver.Source{}
	for _, g := range graphs {
		for _, s := range f.Sources(g) {
			all[s.Name] = s
		}
	}
	var code strings.Builder
	var names []string
	var one driver.Source
	for _, name := range slices.Sorted(maps.Keys(all)) {
		one = all[name]
		code.WriteString(one.Code)
		names = append(names, strings.TrimSuffix(name, ".cu"))
	}
	one.Name, one.Code = "all.cu", code.String()
	r.load(t, one, names...)
}

// recorder is the caller of one chain.
type recorder struct {
	r        *rig
	launches []*driver.Launch
}

func (c *recorder) Constant(data []byte) (driver.Pointer, error) {
	p, err := c.r.ctx.Alloc(len(data))
	if err != nil {
		return 0, err
	}
	return p, c.r.ctx.Upload(p, data)
}

func (c *recorder) Launch(f *driver.Function, grid, block driver.Dim, _ int, args ...any) {
	c.launches = append(c.launches, f.Launch(grid, block, args...))
}

// run returns the graph's outputs.
func (r *rig) run(t checker, f *Fuser, g *graph.Graph, in []*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	at := map[graph.Value]driver.Pointer{}
	for i, n := range g.Inputs {
		at[graph.Value{N: n}] = r.upload(t, in[i])
	}
	for _, n := range g.Nodes {
		switch {
		case n.IsInput():
		case views[n.Op.Name]:
			at[graph.Value{N: n}] = at[n.In[0]]
		case ChainOf(n) != nil:
			r.chain(t, f, n, at)
		default:
			r.opaque(t, n, at)
		}
	}
	var out []*tensor.Tensor
	for _, o := range g.Outputs {
		x := tensor.New(o.Value.Type())
		must(t, r.ctx.Download(x.Data, at[o.Value]))
		out = append(out, x)
	}
	return out
}

func (r *rig) upload(t checker, x *tensor.Tensor) driver.Pointer {
	p, err := r.ctx.Alloc(len(x.Data))
	must(t, err)
	must(t, r.ctx.Upload(p, x.Data))
	return p
}

func (r *rig) chain(t checker, f *Fuser, n *graph.Node, at map[graph.Value]driver.Pointer) {
	t.Helper()
	rec := &recorder{r: r}
	var in, out []driver.Pointer
	for _, v := range n.In {
		in = append(in, at[v])
	}
	for i, typ := range n.Out {
		p, err := r.ctx.Alloc(typ.Bytes())
		must(t, err)
		at[graph.Value{N: n, I: i}] = p
		out = append(out, p)
	}
	k, ok := f.Pick(n)
	if !ok {
		t.Fatalf("no kernel for %v", n.Out)
	}
	scratch, err := r.ctx.Alloc(max(1, k.Scratch(n)))
	must(t, err)
	must(t, f.bindTo(rec, n, in, out, scratch, func(e executable, name string) (*driver.Function, error) {
		if r.modules[e.main] == nil {
			r.load(t, e.source, e.main)
		}
		return r.modules[e.main].Function(name)
	}))
	for _, l := range rec.launches {
		must(t, l.Run(r.stream))
	}
	if err := r.stream.Synchronize(); err != nil {
		t.Fatalf("%v: %v", ChainOf(n).names, err)
	}
}

// opaque runs a node on the reference backend.
func (r *rig) opaque(t checker, n *graph.Node, at map[graph.Value]driver.Pointer) {
	t.Helper()
	var in []*tensor.Tensor
	g, err := graph.Trace(func(b *graph.Builder) {
		var args []graph.Value
		for i, v := range n.In {
			args = append(args, b.Input(fmt.Sprint("x", i), v.Type().DType, v.Shape()...))
			x := tensor.New(v.Type())
			must(t, r.ctx.Download(x.Data, at[v]))
			in = append(in, x)
		}
		for i, v := range b.Apply(n.Op, n.Attr, args...) {
			b.Output(fmt.Sprint("y", i), v)
		}
	})
	must(t, err)
	for i, x := range reference(t, r.alone, g, in) {
		at[graph.Value{N: n, I: i}] = r.upload(t, x)
	}
}

// reference runs a graph on a backend of the processor.
func reference(t checker, b framework.Backend, g *graph.Graph, in []*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	ctx := context.Background()
	s, err := b.NewStore()
	must(t, err)
	exe, err := b.Compile(ctx, g)
	must(t, err)
	var out []*tensor.Tensor
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
	}
	must(t, exe.Run(ctx, s, in, out))
	return out
}

// fill makes inputs for a graph; halves are values that bf16 holds exactly.
func fill(g *graph.Graph, seed uint64, halves bool) []*tensor.Tensor {
	rng := rand.New(rand.NewPCG(seed, 7))
	var in []*tensor.Tensor
	for _, n := range g.Inputs {
		x := tensor.New(n.Out[0])
		for i := range x.Shape.Numel() {
			v := float32(rng.NormFloat64())
			if halves {
				v = tensor.BF16ToF32(tensor.F32ToBF16(v))
			}
			switch x.DType {
			case tensor.F32:
				x.F32()[i] = v
			case tensor.F16:
				x.U16()[i] = tensor.F32ToF16(v)
			case tensor.BF16:
				x.U16()[i] = tensor.F32ToBF16(v)
			case tensor.I32:
				x.I32()[i] = int32(rng.Uint32())
			case tensor.Bool:
				x.Data[i] = byte(rng.IntN(2))
			case tensor.I8:
				x.Data[i] = byte(rng.IntN(256))
			}
		}
		in = append(in, x)
	}
	return in
}

// floats are the elements of a tensor.
func floats(x *tensor.Tensor) []float64 {
	out := make([]float64, x.Shape.Numel())
	for i := range out {
		switch x.DType {
		case tensor.I32:
			out[i] = float64(x.I32()[i])
		case tensor.Bool, tensor.I8:
			out[i] = float64(x.Data[i])
		default:
			return x.Floats()
		}
	}
	return out
}

// nmse is the squared error over the squared reference, whose root mean square is
// taken as 0.01 at least; a NaN or an infinity must be the same in both.
func nmse(got, want *tensor.Tensor) float64 {
	g, w := floats(got), floats(want)
	e, r := 0.0, 1e-4*float64(len(w))
	for i := range w {
		if same := g[i] == w[i] || math.IsNaN(g[i]) && math.IsNaN(w[i]); same {
			if !math.IsNaN(w[i]) && !math.IsInf(w[i], 0) {
				r += w[i] * w[i]
			}
			continue
		}
		d := g[i] - w[i]
		e, r = e+d*d, r+w[i]*w[i]
	}
	if math.IsNaN(e) {
		return math.Inf(1)
	}
	return e / r
}

func trace(t checker, fn func(b *graph.Builder)) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(fn)
	must(t, err)
	return g
}

func fused(t checker, g *graph.Graph) *graph.Graph {
	t.Helper()
	h, err := Fuse(g)
	must(t, err)
	return h
}

// chainsOf are the fused nodes of a graph.
func chainsOf(g *graph.Graph) []*graph.Node {
	var out []*graph.Node
	for _, n := range g.Nodes {
		if ChainOf(n) != nil {
			out = append(out, n)
		}
	}
	return out
}
