package rows_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cu"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/rows"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// scale is what the tests make values of that die, and f32 of bf16.
var scale = cu.Source("test.cu", `
#include "tern.cuh"
extern "C" __global__ void test_scale(const void *x, void *y, size_t n, float by, unsigned narrow) {
  size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) store(y, i, narrow & 2, load(x, i, narrow & 1) * by);
}`)

func table() engine.Table {
	t := engine.Table{}
	rows.Add(t)
	t.Add("scale", engine.Kernel{
		Narrow: func(*graph.Node) ([]bool, []bool) { return []bool{true}, []bool{true} },
		Bind: func(c *engine.Call) error {
			f, err := c.Device.Function(scale, "test_scale")
			if err != nil {
				return err
			}
			n := c.Node.Out[0].Shape.Numel()
			by := float32(c.Node.Attr.(graph.ConstAttr).Value)
			c.Launch(f, driver.Dim{X: (n + 63) / 64}, driver.Dim{X: 64}, 0, c.In[0], c.Out[0], uint64(n), by, c.Narrow())
			return nil
		},
	})
	return t
}

// device opens a backend of the kernels; it is closed with the test.
func device(t *testing.T, p engine.Precision, settings ...string) *engine.Backend {
	t.Helper()
	return cudatest.Backend(cudatest.Open(t, p, settings...), table(), nil)
}

// operand is one of a sample: float values are f32 unless it says otherwise.
type operand struct {
	tensor.Type
	fill func(r *rand.Rand) float64
}

func normal(r *rand.Rand) float64   { return r.NormFloat64() }
func positive(r *rand.Rand) float64 { return 0.2 + 2*r.Float64() }
func wide(r *rand.Rand) float64     { return 8 * r.NormFloat64() }

// between is a whole number of [lo,hi).
func between(lo, hi int) func(r *rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return float64(lo + r.IntN(hi-lo)) }
}

func constant(v float64) func(r *rand.Rand) float64 { return func(*rand.Rand) float64 { return v } }

func of(d tensor.DType, fill func(r *rand.Rand) float64, dims ...int) operand {
	return operand{tensor.T(d, dims...), fill}
}

func f32(dims ...int) operand { return of(tensor.F32, normal, dims...) }

func i32(lo, hi int, dims ...int) operand { return of(tensor.I32, between(lo, hi), dims...) }

// sample is an op with operands.
type sample struct {
	op   string
	attr any
	in   []operand
}

func (s sample) String() string {
	var parts []string
	for _, o := range s.in {
		parts = append(parts, o.Type.String())
	}
	return s.op + " of " + strings.Join(parts, " ")
}

// form is how a sample is put into a graph.
type form struct {
	dying  bool // operands are values that die at the op, and may be overwritten
	narrow bool // float operands of which bit i of operands is set, and results of which a bit of results is, may be bf16

	operands, results uint
}

// gathered is whether operand i goes through a gather, whose result may be bf16.
func (s sample) gathered(f form, i int) bool {
	o := s.in[i]
	return f.narrow && f.operands>>i&1 == 1 && o.DType == tensor.F32 && len(o.Shape) > 1
}

func (s sample) graph(t *testing.T, f form) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) {
		var x []graph.Value
		for i, o := range s.in {
			name := fmt.Sprintf("x%d", i)
			switch {
			case s.gathered(f, i):
				width := o.Shape[len(o.Shape)-1]
				rows := o.Shape.Numel() / width
				all := b.Gather(b.Input(name, tensor.F32, rows, width), b.Input("rows"+name, tensor.I32, rows))
				x = append(x, b.Reshape(all, o.Shape...))
			case f.dying && o.DType == tensor.F32:
				x = append(x, b.Scale(b.Input(name, o.DType, o.Shape...), 1))
			default:
				x = append(x, b.Input(name, o.DType, o.Shape...))
			}
		}
		for i, y := range b.Apply(graph.Lookup(s.op), s.attr, x...) {
			if f.narrow && f.results>>i&1 == 1 && y.Type().DType == tensor.F32 {
				y = b.Scale(y, 1)
			}
			b.Output(fmt.Sprintf("y%d", i), y)
		}
	})
	must(t, err)
	return g
}

// tensors makes the operands; in narrow forms all floats are numbers of bf16.
func (s sample) tensors(f form) []*tensor.Tensor {
	r := rand.New(rand.NewPCG(20251, uint64(len(s.in))))
	var all []*tensor.Tensor
	for i, o := range s.in {
		x := tensor.New(o.Type)
		for k := range o.Shape.Numel() {
			v := o.fill(r)
			if f.narrow {
				v = brain(v)
			}
			set(x, k, v)
		}
		all = append(all, x)
		if s.gathered(f, i) {
			width := o.Shape[len(o.Shape)-1]
			x.Shape = tensor.Shape{o.Shape.Numel() / width, width}
			ids := tensor.New(tensor.T(tensor.I32, x.Shape[0]))
			for k := range x.Shape[0] {
				ids.I32()[k] = int32(k)
			}
			all = append(all, ids)
		}
	}
	return all
}

func brain(v float64) float64 { return float64(tensor.BF16ToF32(tensor.F32ToBF16(float32(v)))) }

func set(x *tensor.Tensor, i int, v float64) {
	switch x.DType {
	case tensor.F32:
		x.F32()[i] = float32(v)
	case tensor.F64:
		tensor.View[float64](x.Data)[i] = v
	case tensor.I32:
		x.I32()[i] = int32(v)
	case tensor.F16:
		x.U16()[i] = tensor.F32ToF16(float32(v))
	case tensor.BF16:
		x.U16()[i] = tensor.F32ToBF16(float32(v))
	}
}

// values are the elements of a float tensor.
func values(x *tensor.Tensor) []float64 {
	out := make([]float64, x.Shape.Numel())
	for i := range out {
		switch x.DType {
		case tensor.F32:
			out[i] = float64(x.F32()[i])
		case tensor.F64:
			out[i] = tensor.View[float64](x.Data)[i]
		case tensor.F16:
			out[i] = float64(tensor.F16ToF32(x.U16()[i]))
		}
	}
	return out
}

// run compiles g and runs it once. wide is for a backend that computes in
// float64, whose tensors are f64.
func run(b framework.Backend, g *graph.Graph, in []*tensor.Tensor, wide bool) ([]*tensor.Tensor, error) {
	ctx := context.Background()
	e, err := b.Compile(ctx, g)
	if err != nil {
		return nil, err
	}
	defer func() { _ = e.Close() }()
	s, err := b.NewStore()
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	args := append([]*tensor.Tensor{}, in...)
	for i, x := range in {
		if wide && x.DType == tensor.F32 {
			args[i] = tensor.FromF64(values(x), x.Shape...)
		}
	}
	var out []*tensor.Tensor
	for _, o := range g.Outputs {
		typ := o.Value.Type()
		if wide && typ.DType == tensor.F32 {
			typ.DType = tensor.F64
		}
		out = append(out, tensor.New(typ))
	}
	return out, e.Run(ctx, s, args, out)
}

// near fails unless each element of got is want but for a share of it and a
// little of the size of all elements. NaN and infinities must be where want has
// them.
func near(got, want []float64, share float64) error {
	square := 0.0
	for _, w := range want {
		if w-w == 0 {
			square += w * w / float64(len(want))
		}
	}
	size := math.Sqrt(square)
	for i, w := range want {
		if got[i] == w || math.IsNaN(w) && math.IsNaN(got[i]) {
			continue
		}
		if d := math.Abs(got[i] - w); !(d <= share*math.Abs(w)+2e-6*size+1e-7) {
			return fmt.Errorf("element %d is %v, want %v (of a size of %.2g)", i, got[i], w, size)
		}
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
