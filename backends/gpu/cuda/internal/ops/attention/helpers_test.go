package attention

import (
	"context"
	"encoding/binary"
	"math"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

// rig is a device on which work runs without the engine, so that a test chooses
// the width of every array.
type rig struct {
	t *testing.T
	d *engine.Device
	s *driver.Stream
}

func newRig(t *testing.T, settings ...string) *rig {
	t.Helper()
	d := cudatest.Open(t, engine.BF16, settings...)
	s, err := d.Context().NewStream()
	must(t, err)
	t.Cleanup(func() { must(t, s.Destroy()) })
	return &rig{t, d, s}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// array is memory of the device.
type array struct {
	p driver.Pointer
	d tensor.DType
	n int
}

func (r *rig) alloc(d tensor.DType, n int) array {
	r.t.Helper()
	p, err := r.d.Context().Alloc(max(n*tensor.T(d, 1).Bytes(), 1))
	must(r.t, err)
	r.t.Cleanup(func() { must(r.t, r.d.Context().Free(p)) })
	return array{p, d, n}
}

func (r *rig) put(d tensor.DType, v []float64) array {
	r.t.Helper()
	a := r.alloc(d, len(v))
	must(r.t, r.d.Context().Upload(a.p, encode(d, v)))
	return a
}

func (r *rig) get(a array) []float64 {
	r.t.Helper()
	must(r.t, r.s.Synchronize())
	data := make([]byte, a.n*tensor.T(a.d, 1).Bytes())
	must(r.t, r.d.Context().Download(data, a.p))
	return decode(a.d, data)
}

func (r *rig) run(all ...work) {
	r.t.Helper()
	for _, w := range all {
		f, err := r.d.Function(w.source, w.kernel)
		must(r.t, err)
		if w.shared > r.d.Info().Shared {
			must(r.t, f.SetDynamicShared(w.shared))
		}
		for i, a := range w.args {
			if v, ok := a.(int); ok {
				w.args[i] = int32(v)
			}
		}
		l := f.Launch(driver.Dim{X: w.grid}, driver.Dim{X: w.block}, w.args...)
		l.Shared = w.shared
		must(r.t, l.Run(r.s))
	}
	must(r.t, r.s.Synchronize())
}

func encode(d tensor.DType, v []float64) (data []byte) {
	for _, x := range v {
		switch d {
		case tensor.F32:
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(x)))
		case tensor.BF16:
			data = binary.LittleEndian.AppendUint16(data, tensor.F32ToBF16(float32(x)))
		case tensor.F16:
			data = binary.LittleEndian.AppendUint16(data, tensor.F32ToF16(float32(x)))
		case tensor.I32:
			data = binary.LittleEndian.AppendUint32(data, uint32(int32(x)))
		}
	}
	return data
}

func decode(d tensor.DType, data []byte) (v []float64) {
	for len(data) > 0 {
		switch d {
		case tensor.F32:
			v = append(v, float64(math.Float32frombits(binary.LittleEndian.Uint32(data))))
		case tensor.BF16:
			v = append(v, float64(tensor.BF16ToF32(binary.LittleEndian.Uint16(data))))
		case tensor.F16:
			v = append(v, float64(tensor.F16ToF32(binary.LittleEndian.Uint16(data))))
		case tensor.I32:
			v = append(v, float64(int32(binary.LittleEndian.Uint32(data))))
		}
		data = data[tensor.T(d, 1).Bytes():]
	}
	return v
}

// random gives n numbers of a normal distribution that d holds.
func random(name string, d tensor.DType, n int) []float64 {
	key := rng.NewKey(7, name)
	v := make([]float64, n)
	for i := range v {
		v[i] = key.Normal(uint64(i))
	}
	return decode(d, encode(d, v))
}

// operand is one of an op, as the graph knows it: f32 for what is stored as bf16.
type operand struct {
	t tensor.Type
	v []float64
}

// reference is what the scalar backend gives in float64.
func reference(t *testing.T, op string, attr any, in ...operand) [][]float64 {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) {
		var args []graph.Value
		for i, o := range in {
			args = append(args, b.Input(string(rune('a'+i)), o.t.DType, o.t.Shape...))
		}
		for i, v := range b.Apply(graph.Lookup(op), attr, args...) {
			b.Output(string(rune('y'+i)), v)
		}
	})
	must(t, err)
	var args, out []*tensor.Tensor
	for _, o := range in {
		args = append(args, widest(o))
	}
	for _, o := range g.Outputs {
		out = append(out, tensor.New(tensor.T(tensor.F64, o.Value.Shape()...)))
	}
	ctx, b := context.Background(), scalar.Open64(1)
	e, err := b.Compile(ctx, g)
	must(t, err)
	s, err := b.NewStore()
	must(t, err)
	must(t, e.Run(ctx, s, args, out))
	must(t, e.Close())
	must(t, s.Close())
	var all [][]float64
	for _, x := range out {
		all = append(all, x.Floats())
	}
	return all
}

// widest is o as the float64 backend takes it.
func widest(o operand) *tensor.Tensor {
	if o.t.DType != tensor.F32 {
		return &tensor.Tensor{Type: o.t, Data: encode(o.t.DType, o.v)}
	}
	x := tensor.New(tensor.T(tensor.F64, o.t.Shape...))
	for i, v := range o.v {
		binary.LittleEndian.PutUint64(x.Data[8*i:], math.Float64bits(v))
	}
	return x
}

// nmse is the squared error over the square of what is wanted.
func nmse(got, want []float64) float64 {
	var e, n float64
	for i, w := range want {
		e += (got[i] - w) * (got[i] - w)
		n += w * w
	}
	if n == 0 {
		n = 1
	}
	return e / n
}

func within(t *testing.T, what string, got, want []float64, bound float64) {
	t.Helper()
	if e := nmse(got, want); !(e <= bound) || len(got) != len(want) {
		t.Errorf("%s: error %.1e of at most %.0e (%d of %d numbers)", what, e, bound, len(got), len(want))
	}
}

func same(t *testing.T, what string, got, want []float64) {
	t.Helper()
	for i, w := range want {
		if math.Float64bits(got[i]) != math.Float64bits(w) {
			t.Fatalf("%s: number %d is %v, not %v", what, i, got[i], w)
		}
	}
}
