package linear_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cu"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/linear"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// around has what makes values narrow in a test: gather gives one that depends on
// tokens, and neg takes one.
const around = `
#include "tern.cuh"
extern "C" __global__ void around_gather(const float *table, void *out, size_t n, int narrow) {
  size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) store(out, i, narrow, table[i]);
}
extern "C" __global__ void around_neg(const void *x, void *y, size_t n, unsigned narrow) {
  size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) store(y, i, narrow & 2, -load(x, i, narrow & 1));
}
`

// table has the kernels under test, neg, and a gather of all rows in order.
func table() engine.Table {
	t := engine.Table{}
	linear.Add(t)
	src := cu.Source("around.cu", around)
	launch := func(c *engine.Call, name string, args ...any) error {
		f, err := c.Device.Function(src, name)
		if err != nil {
			return err
		}
		c.Launch(f, driver.Dim{X: (c.Node.Out[0].Shape.Numel() + 127) / 128}, driver.Dim{X: 128}, 0, args...)
		return nil
	}
	size := func(c *engine.Call) uint64 { return uint64(c.Node.Out[0].Shape.Numel()) }
	t.Add("gather", engine.Kernel{
		Narrow: func(*graph.Node) (in, out []bool) { return []bool{false, false}, []bool{true} },
		Bind: func(c *engine.Call) error {
			return launch(c, "around_gather", c.In[0], c.Out[0], size(c), int32(c.Narrow()>>2))
		},
	})
	t.Add("neg", engine.Kernel{
		Narrow: func(*graph.Node) (in, out []bool) { return []bool{true}, []bool{false} },
		Bind:   func(c *engine.Call) error { return launch(c, "around_neg", c.In[0], c.Out[0], size(c), c.Narrow()) },
	})
	return t
}

// use is an op with its operands.
type use struct {
	op   *graph.Op
	attr any
	in   []*tensor.Tensor
	fed  []int // operands that depend on tokens, and so may be narrow
}

// graph applies the op. Results are negated where operands are fed, so that they
// may be narrow too.
func (u use) graph(t *testing.T) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) {
		x := make([]graph.Value, len(u.in))
		for i, v := range u.in {
			x[i] = b.Input(string(rune('a'+i)), v.DType, v.Shape...)
		}
		for _, i := range u.fed {
			x[i] = b.Gather(x[i], b.Input(string(rune('A'+i)), tensor.I32, u.in[i].Shape[0]))
		}
		for i, y := range b.Apply(u.op, u.attr, x...) {
			if u.fed != nil && y.Type().DType == tensor.F32 {
				y = b.Neg(y)
			}
			b.Output(string(rune('p'+i)), y)
		}
	})
	must(t, err)
	return g
}

// run gives the results of u on a backend.
func (u use) run(t *testing.T, be framework.Backend) []*tensor.Tensor {
	t.Helper()
	out, err := u.try(t, be)
	must(t, err)
	return out
}

func (u use) try(t *testing.T, be framework.Backend) ([]*tensor.Tensor, error) {
	t.Helper()
	g := u.graph(t)
	exec, err := be.Compile(context.Background(), g)
	must(t, err)
	defer exec.Close()
	store, err := be.NewStore()
	must(t, err)
	defer store.Close()
	in := append([]*tensor.Tensor{}, u.in...)
	for _, i := range u.fed {
		ids := make([]int32, u.in[i].Shape[0])
		for r := range ids {
			ids[r] = int32(r)
		}
		in = append(in, tensor.FromI32(ids, len(ids)))
	}
	var out []*tensor.Tensor
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
	}
	return out, exec.Run(context.Background(), store, in, out)
}

// cuda opens a backend of the kernels under test.
func cuda(t *testing.T, p engine.Precision, settings ...string) framework.Backend {
	t.Helper()
	return cudatest.Backend(cudatest.Open(t, p, settings...), table(), nil)
}

func reference(t *testing.T) framework.Backend {
	t.Helper()
	be, err := scalar.Open(framework.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, be.Close()) })
	return be
}

// compare fails unless the results of u are those of the scalar backend, which adds
// in float64, up to a normalized mean square error. It quantizes in float32, as is
// right: in float64 a tie would fall to the other side.
func compare(t *testing.T, name string, be framework.Backend, u use, bound float64) {
	t.Helper()
	ref := reference(t)
	want := u.run(t, ref)
	for i, got := range u.run(t, be) {
		num, den := 0.0, 1e-4*float64(len(got.Floats()))
		w := want[i].Floats()
		for j, v := range got.Floats() {
			if v != w[j] && !(math.IsNaN(v) && math.IsNaN(w[j])) {
				num += (v - w[j]) * (v - w[j])
			}
			if !math.IsNaN(w[j]) && !math.IsInf(w[j], 0) {
				den += w[j] * w[j]
			}
		}
		if e := num / den; !(e <= bound) {
			t.Errorf("%s: result %d of %s has an error of %.1e, at most %.0e is allowed", name, i, u.op.Name, e, bound)
		}
	}
}

// floats are normal, with one row of zeros among many.
func floats(rng *rand.Rand, scale float64, dims ...int) *tensor.Tensor {
	x := tensor.New(tensor.T(tensor.F32, dims...))
	for i := range x.F32() {
		if i/dims[len(dims)-1] != 2 {
			x.F32()[i] = float32(scale * rng.NormFloat64())
		}
	}
	return x
}

// book is an encoding of codes and its levels.
type book struct {
	d      tensor.DType
	levels []int8
}

var books = map[string]book{
	"ternary": {tensor.U2, []int8{-1, 0, 1}},
	"odd":     {tensor.U4, []int8{-128, -90, -7, 0, 3, 5, 8, 13, 127, 21, 34}},
	"binary":  {tensor.U1, []int8{-1, 1}},
	"four":    {tensor.U2, []int8{7, -3, 1, -128}},
	"int8":    {tensor.I8, nil},
}

// codes are bytes of any value: codes that the book lacks are among them.
func (k book) codes(rng *rand.Rand, m, n int) *tensor.Tensor {
	c := tensor.New(tensor.T(k.d, m, n))
	for i := range c.Data {
		c.Data[i] = byte(rng.Uint32())
	}
	return c
}

// level is that of column j of row i, from the definition of the encodings.
func (k book) level(c *tensor.Tensor, i, j int) int {
	row := len(c.Data) / c.Shape[0]
	if k.d == tensor.I8 {
		if v := int8(c.Data[i*row+j]); v != -128 {
			return int(v)
		}
		return 0
	}
	per := k.d.Block()
	bits := 8 / per
	code := int(c.Data[i*row+j/per]) >> (j % per * bits) & (1<<bits - 1)
	if code < len(k.levels) {
		return int(k.levels[code])
	}
	return 0
}
