package residualtest

import (
	"context"
	"fmt"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

// scope is the scope of sub-layer l, as a model has it.
func scope(l int) string { return fmt.Sprintf("blk.%d.%s", l/2, []string{"attn", "ffn"}[l%2]) }

// at runs fn in the scope of sub-layer l.
func at(b *graph.Builder, l int, fn func() graph.Value) (v graph.Value) {
	b.In(scope(l), func() { v = fn() })
	return v
}

// sublayer reads, applies f and writes.
func (s *tester) sublayer(b *graph.Builder, l int, stream graph.Value, f func(x graph.Value) graph.Value) graph.Value {
	return at(b, l, func() graph.Value { return s.r.Write(b, l, stream, f(s.r.Read(b, l, stream))) })
}

// session is a compiled graph and the store it runs on.
type session struct {
	g     *graph.Graph
	exec  framework.Executable
	store framework.Store
}

// session compiles g and draws its parameters: Init, moved by spread times
// standard normal numbers.
func (s *tester) session(ctx context.Context, g *graph.Graph, spread float64) (*session, error) {
	exec, err := s.be.Compile(ctx, g)
	if err != nil {
		return nil, err
	}
	st, err := s.be.NewStore()
	if err != nil {
		return nil, err
	}
	for _, n := range g.Params() {
		if err := st.Put(ctx, n.Name(), drawn(n, spread)); err != nil {
			return nil, err
		}
	}
	return &session{g, exec, st}, nil
}

func drawn(n *graph.Node, spread float64) *tensor.Tensor {
	t := tensor.New(tensor.T(tensor.F64, n.Out[0].Shape...))
	init, k := n.Attr.(graph.ParamAttr).Init, rng.NewKey(20253, n.Name())
	for i := range t.F64() {
		v := init.Mean + init.Std*k.Normal(uint64(2*i))
		if len(init.Values) > 0 {
			v = init.Values[i%len(init.Values)]
		}
		t.F64()[i] = v + spread*k.Normal(uint64(2*i+1))
	}
	return t
}

func (s *session) run(ctx context.Context, in ...*tensor.Tensor) ([]*tensor.Tensor, error) {
	out := make([]*tensor.Tensor, len(s.g.Outputs))
	for i, o := range s.g.Outputs {
		t := o.Value.Type()
		if t.DType == tensor.F32 {
			t.DType = tensor.F64
		}
		out[i] = tensor.New(t)
	}
	return out, s.exec.Run(ctx, s.store, in, out)
}

func (s *session) close() {
	_ = s.exec.Close()
	_ = s.store.Close()
}

// once traces, compiles and runs fn.
func (s *tester) once(ctx context.Context, spread float64, in []*tensor.Tensor, fn func(b *graph.Builder)) ([]*tensor.Tensor, error) {
	g, err := graph.Trace(fn)
	if err != nil {
		return nil, err
	}
	ses, err := s.session(ctx, g, spread)
	if err != nil {
		return nil, err
	}
	defer ses.close()
	return ses.run(ctx, in...)
}

// normal draws [dims] in float64.
func normal(name string, dims ...int) *tensor.Tensor {
	t := tensor.New(tensor.T(tensor.F64, dims...))
	k := rng.NewKey(20253, name)
	for i := range t.F64() {
		t.F64()[i] = k.Normal(uint64(i))
	}
	return t
}
