package diagnose_test

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/ternlm/tern/diagnose"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The sizes of the models of these tests.
const (
	dim, vocab = 8, 40
	layers     = 3
	sub        = 2 * layers
)

func config(residual string) model.Config {
	return model.Config{
		Tokenizer: "gpt2:320", Vocab: vocab, Dim: dim, Layers: layers, Heads: 2, KVHeads: 1, FFN: 16, Context: 64, RoPETheta: 10000, NormEps: 1e-6,
		Quant: "none", Residual: residual, Head: "f16",
	}
}

// text is B windows of T tokens.
func text(B, T int) diagnose.Windows {
	w := diagnose.Windows{Batch: B, Window: T, Tokens: make([]int32, B*T), Targets: make([]int32, B*T)}
	for i := range B * T {
		w.Tokens[i], w.Targets[i] = int32(i*7%vocab), int32(i*11%vocab)
	}
	return w
}

// lab is a model with weights in a store.
type lab struct {
	*testing.T
	ctx   context.Context
	be    framework.Backend
	model *model.Model
	store framework.Store
}

// open draws weights around their inits, moved by spread.
func open(t *testing.T, be framework.Backend, c model.Config, spread float64) *lab {
	t.Helper()
	l := &lab{t, context.Background(), be, must(model.New(c)), must(be.NewStore())}
	t.Cleanup(func() { _, _ = l.store.Close(), be.Close() })
	for _, p := range must(l.model.Parameters()) {
		w := tensor.New(tensor.T(tensor.F32, p.Shape...))
		k := rng.NewKey(7, p.Name)
		for i := range w.F32() {
			v := p.Init.Mean + 10*p.Init.Std*k.Normal(uint64(2*i))
			if len(p.Init.Values) > 0 {
				v = p.Init.Values[i%len(p.Init.Values)]
			}
			if p.Category == model.Residuals {
				v += spread * k.Normal(uint64(2*i+1))
			}
			w.F32()[i] = float32(v)
		}
		if err := l.store.Put(l.ctx, p.Name, w); err != nil {
			t.Fatal(err)
		}
	}
	g := must(l.model.Pack())
	if exe := must(be.Compile(l.ctx, g)); exe.Run(l.ctx, l.store, nil, nil) != nil {
		t.Fatal("weights cannot be packed")
	}
	return l
}

// diagnose runs one diagnosis, with matrices.
func (l *lab) diagnose(w diagnose.Windows) diagnose.Report {
	l.Helper()
	d := must(diagnose.NewStreams(l.ctx, l.be, l.model, diagnose.Options{Text: w, Matrices: true}))
	defer d.Close()
	return must(d.Run(l.ctx, l.store))
}

// run runs a graph and returns its outputs in float64.
func (l *lab) run(g *graph.Graph, in ...*tensor.Tensor) map[string]*tensor.Tensor {
	l.Helper()
	exe := must(l.be.Compile(l.ctx, g))
	defer exe.Close()
	var out []*tensor.Tensor
	byName := map[string]*tensor.Tensor{}
	for _, o := range g.Outputs {
		t := tensor.New(tensor.T(tensor.F64, o.Value.Shape()...))
		out, byName[o.Name] = append(out, t), t
	}
	if err := exe.Run(l.ctx, l.store, in, out); err != nil {
		l.Fatal(err)
	}
	return byName
}

// probe outputs every stream, that of sub-layer l as s.l and Expand's as s.-1.
type probe struct{}

func (probe) Stream(b *graph.Builder, l int, s graph.Value) { b.Output(fmt.Sprint("s", l), s) }
func (probe) Loss(b *graph.Builder, nll graph.Value)        { b.Output("nll", nll) }

// streams are the streams [N,S,C] after each sub-layer; Expand's come first.
func (l *lab) streams(w diagnose.Windows) (all []*tensor.Tensor) {
	l.Helper()
	out := l.run(must(l.model.Watch(w.Batch, w.Window, model.Pass{}, probe{})), inputs(w)...)
	for i := range sub + 1 {
		all = append(all, out[fmt.Sprint("s", i-1)])
	}
	return all
}

func inputs(w diagnose.Windows) []*tensor.Tensor {
	return []*tensor.Tensor{tensor.FromI32(w.Tokens, w.Batch, w.Window), tensor.FromI32(w.Targets, w.Batch*w.Window)}
}

func near(t *testing.T, what string, got, want, bound float64) {
	t.Helper()
	if !(math.Abs(got-want) <= bound*max(1e-3, math.Abs(want))) {
		t.Errorf("%s is %.12g, want %.12g", what, got, want)
	}
}

// bench is a residual of several streams for tests: Write mixes by what matrix
// gives and adds the branch to stream i times post[i].
type bench struct {
	name   string
	post   []float64
	matrix func(b *graph.Builder, l int, s graph.Value) graph.Value
	// nudge, if it is not below 0, is the sub-layer after which the buffer nudge
	// is added to the stream.
	nudge int
}

func (r bench) Spec() string { return r.name }

func (r bench) Expand(b *graph.Builder, x graph.Value) graph.Value {
	x = b.Reshape(x, x.Dim(0), 1, x.Dim(1))
	all := make([]graph.Value, len(r.post))
	for i := range all {
		all[i] = x
	}
	return b.Concat(1, all...)
}

func (r bench) Read(b *graph.Builder, _ int, s graph.Value) graph.Value {
	return b.StreamRead(s, b.Const(1, tensor.T(tensor.F32, len(r.post))))
}

func (r bench) Write(b *graph.Builder, l int, s, y graph.Value) graph.Value {
	out := b.StreamWrite(s, y, r.Mixing(b, l, s), b.ConstList(r.post, len(r.post)))
	if l == r.nudge {
		out = b.Add(out, b.GlobalBuffer("nudge", out.Type()))
	}
	return out
}

func (r bench) Collapse(b *graph.Builder, s graph.Value) graph.Value {
	return b.Reshape(b.Mean(s, 1), s.Dim(0), s.Dim(2))
}

func (r bench) Mixing(b *graph.Builder, l int, s graph.Value) graph.Value { return r.matrix(b, l, s) }
func (r bench) Width() int                                                { return len(r.post) }
func (r bench) DoublyStochastic() bool                                    { return false }

// The matrices of fixed, by sub-layer modulo 2: they do not commute.
var fixedMatrices = [][]float64{{1, 0.5, 0, 1}, {1, 0, -0.25, 0.75}}

// following is I + u v^T with u_i = sin(mean of stream i), v_j = cos(2 mean of
// stream j): another matrix at each token.
func following(b *graph.Builder, _ int, s graph.Value) graph.Value {
	N, S := s.Dim(0), s.Dim(1)
	m := b.Mean(s, 2)
	outer := b.Mul(b.Sin(m), b.Reshape(b.Cos(b.Scale(m, 2)), N, 1, S))
	eye := make([]float64, S*S)
	for i := range S {
		eye[i*S+i] = 1
	}
	return b.Add(outer, b.ConstList(eye, 1, S, S))
}

func init() {
	register := func(r bench) {
		framework.Residuals.Register(r.name, func(framework.Options) (framework.Residual, error) { return r, nil })
	}
	constant := func(b *graph.Builder, l int, s graph.Value) graph.Value {
		return b.ConstList(fixedMatrices[l%2], 2, 2)
	}
	register(bench{name: "fixed", post: []float64{1, 0.5}, matrix: constant, nudge: -1})
	register(bench{name: "following", post: []float64{1, 0.5, -0.5}, matrix: following, nudge: -1})
	for l := range sub {
		register(bench{name: fmt.Sprint("nudged", l), post: []float64{1, 0.5}, matrix: following, nudge: l})
	}
	register(bench{name: "equal", post: []float64{0.7, 0.7, 0.7}, nudge: -1, matrix: func(b *graph.Builder, _ int, _ graph.Value) graph.Value {
		return b.ConstList([]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}, 3, 3)
	}})
}
