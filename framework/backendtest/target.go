package backendtest

import (
	"bytes"
	"context"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// target is an open backend, and whether f32 values come out of it as f64.
type target struct {
	framework.Backend
	wide bool
}

// newTarget probes be with one tensor.
func newTarget(ctx context.Context, be framework.Backend) (*target, error) {
	s, err := be.NewStore()
	if err != nil {
		return nil, errors.Wrap(err, "probe")
	}
	defer func() { _ = s.Close() }()
	if err := s.Put(ctx, "probe", tensor.FromF32([]float32{1}, 1)); err != nil {
		return nil, errors.Wrap(err, "probe")
	}
	t, err := s.Get(ctx, "probe")
	if err != nil {
		return nil, errors.Wrap(err, "probe")
	}
	return &target{be, t.DType == tensor.F64}, nil
}

// wire is the type of the tensor that carries a value of type typ.
func (t *target) wire(typ tensor.Type) tensor.Type {
	if t.wide && typ.DType == tensor.F32 {
		typ.DType = tensor.F64
	}
	return typ
}

// outs returns tensors for the outputs of g, filled with junk.
func (t *target) outs(g *graph.Graph) []*tensor.Tensor {
	out := make([]*tensor.Tensor, len(g.Outputs))
	for i, o := range g.Outputs {
		out[i] = tensor.New(t.wire(o.Value.Type()))
		for k := range out[i].Data {
			out[i].Data[k] = 0xaa
		}
	}
	return out
}

// states maps names to the tensors that a store starts with.
type states map[string]*tensor.Tensor

// store returns a store that holds st.
func (t *target) store(ctx context.Context, st states) (framework.Store, error) {
	s, err := t.NewStore()
	if err != nil {
		return nil, err
	}
	for name, x := range st {
		if err := s.Put(ctx, name, x); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// session is a compiled graph with a store to run it on.
type session struct {
	t     *target
	g     *graph.Graph
	exec  framework.Executable
	store framework.Store
}

func (t *target) session(ctx context.Context, g *graph.Graph, st states) (*session, error) {
	exec, err := t.Compile(ctx, g)
	if err != nil {
		return nil, err
	}
	s, err := t.store(ctx, st)
	if err != nil {
		return nil, err
	}
	return &session{t, g, exec, s}, nil
}

// run runs once and returns the outputs.
func (s *session) run(ctx context.Context, in ...*tensor.Tensor) ([]*tensor.Tensor, error) {
	return s.on(ctx, s.store, in...)
}

// on runs once on another store.
func (s *session) on(ctx context.Context, st framework.Store, in ...*tensor.Tensor) ([]*tensor.Tensor, error) {
	out := s.t.outs(s.g)
	return out, s.exec.Run(ctx, st, in, out)
}

func (s *session) close() {
	_ = s.exec.Close()
	_ = s.store.Close()
}

// once compiles and runs g.
func (t *target) once(ctx context.Context, g *graph.Graph, st states, in ...*tensor.Tensor) ([]*tensor.Tensor, error) {
	s, err := t.session(ctx, g, st)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return s.run(ctx, in...)
}

// floor is the root mean square below which a result counts as this large:
// operands are of order one, so what nearly cancels keeps an absolute error.
const floor = 1e-2

// nmse is sum (got-want)^2 / sum want^2 of float tensors, the root mean square
// of want taken as floor at least. It is 0 when equal, and +Inf when one holds
// NaN or an infinity where the other does not, or when tensors that are no
// floats differ.
func nmse(got, want *tensor.Tensor) float64 {
	if !got.Shape.Equal(want.Shape) {
		return math.Inf(1)
	}
	if !got.DType.Float() {
		if got.DType != want.DType || !bytes.Equal(got.Data, want.Data) {
			return math.Inf(1)
		}
		return 0
	}
	num, den := 0.0, 0.0
	w := want.Floats()
	for i, x := range got.Floats() {
		if d := x - w[i]; d == 0 || math.IsNaN(x) && math.IsNaN(w[i]) || x == w[i] {
			den += finiteSquare(w[i])
		} else {
			num += d * d
			den += finiteSquare(w[i])
		}
	}
	switch {
	case num == 0:
		return 0
	case math.IsNaN(num):
		return math.Inf(1)
	}
	return num / max(den, floor*floor*float64(len(w)))
}

func finiteSquare(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x * x
}

// differ is the largest nmse of two lists of tensors.
func differ(got, want []*tensor.Tensor) float64 {
	e := 0.0
	for i := range got {
		e = max(e, nmse(got[i], want[i]))
	}
	return e
}

// sameBits fails when two lists of tensors are not equal byte by byte.
func sameBits(what string, got, want []*tensor.Tensor) error {
	for i := range got {
		if !got[i].Type.Equal(want[i].Type) {
			return errors.Newf("%s: result %d is %v, then %v", what, i, want[i].Type, got[i].Type)
		}
		if !bytes.Equal(got[i].Data, want[i].Data) {
			at := 0
			for got[i].Data[at] == want[i].Data[at] {
				at++
			}
			return errors.Newf("%s: bits of result %d %v differ from byte %d on (NMSE %.1e)", what, i, got[i].Type, at, nmse(got[i], want[i]))
		}
	}
	return nil
}
