package main

import (
	"context"
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/train"
)

// benchmarks are what tern bench measures.
func benchmarks() []benchmark {
	const n, m, k = 1024, 2048, 768
	return []benchmark{
		{fmt.Sprintf("f32 matrix product %dx%dx%d", n, m, k), "GFLOP/s", func(ctx context.Context, be framework.Backend) (subject, error) {
			return newProduct(ctx, be, n, m, k)
		}},
		{"training step of tiny, 4 windows of 256", "tok/s", func(ctx context.Context, be framework.Backend) (subject, error) { return newTraining(ctx, be) }},
		{"decoding with tiny", "tok/s", func(ctx context.Context, be framework.Backend) (subject, error) { return newDecoding(ctx, be) }},
	}
}

// product is x [n,k] times y [m,k] transposed.
type product struct {
	exe     framework.Executable
	store   framework.Store
	in, out []*tensor.Tensor
	gflop   float64
}

func newProduct(ctx context.Context, be framework.Backend, n, m, k int) (*product, error) {
	g, err := graph.Trace(func(b *graph.Builder) {
		x, y := b.Input("x", tensor.F32, n, k), b.Input("y", tensor.F32, m, k)
		b.Output("z", b.MatMul(x, y, false, true))
	})
	if err != nil {
		return nil, err
	}
	p := &product{gflop: 2 * float64(n) * float64(m) * float64(k) / 1e9, out: []*tensor.Tensor{tensor.New(tensor.T(tensor.F32, n, m))}}
	for i, rows := range []int{n, m} {
		t := tensor.New(tensor.T(tensor.F32, rows, k))
		rng.NewKey(uint64(i), "bench").FillNormal(t.F32(), 0, 1)
		p.in = append(p.in, t)
	}
	if p.exe, err = be.Compile(ctx, g); err != nil {
		return nil, err
	}
	p.store, err = be.NewStore()
	return p, err
}

func (p *product) Run(ctx context.Context) (float64, error) {
	return p.gflop, p.exe.Run(ctx, p.store, p.in, p.out)
}

func (p *product) Close() error { return errors.CombineErrors(p.exe.Close(), p.store.Close()) }

// training takes steps of the preset tiny on tokens drawn at random.
type training struct {
	t     *train.Trainer
	drawn uint64
}

// tinyTrainer is a trainer for the preset tiny with small batches.
func tinyTrainer(ctx context.Context, be framework.Backend) (*train.Trainer, error) {
	c, err := model.Preset("tiny")
	if err != nil {
		return nil, err
	}
	m, err := model.New(c)
	if err != nil {
		return nil, err
	}
	r, err := train.LookupRecipe("default")
	if err != nil {
		return nil, err
	}
	r.Batch, r.Accum = 4, 1
	t, err := train.New(ctx, be, m, r)
	if err != nil {
		return nil, err
	}
	return t, t.Initialize(ctx)
}

func newTraining(ctx context.Context, be framework.Backend) (*training, error) {
	t, err := tinyTrainer(ctx, be)
	return &training{t: t}, err
}

// Next fills a batch, as train.Source asks.
func (b *training) Next(tokens, targets []int32) error {
	key, vocab := rng.NewKey(1, "bench"), float64(b.t.Model.Vocab)
	for i := range tokens {
		tokens[i] = int32(key.Float64(b.drawn) * vocab)
		targets[i] = int32(key.Float64(b.drawn+1) * vocab)
		b.drawn++
	}
	return nil
}

func (b *training) Run(ctx context.Context) (float64, error) {
	_, err := b.t.Step(ctx, b)
	return float64(b.t.Recipe.TokensPerStep()), err
}

func (b *training) Close() error { return b.t.Close() }

// decoding feeds single tokens to the preset tiny.
type decoding struct {
	m *infer.Model
	s *infer.Session
}

func newDecoding(ctx context.Context, be framework.Backend) (*decoding, error) {
	t, err := tinyTrainer(ctx, be)
	if err != nil {
		return nil, err
	}
	w, err := modelfile.Collect(ctx, t.Model, t.Store())
	if err = errors.CombineErrors(err, t.Close()); err != nil {
		return nil, err
	}
	m, err := infer.Load(ctx, be, w)
	if err != nil {
		return nil, err
	}
	s, err := m.NewSession()
	return &decoding{m, s}, err
}

// Run decodes 64 tokens from the start of a sequence.
func (d *decoding) Run(ctx context.Context) (float64, error) {
	const n = 64
	d.s.Reset()
	for i := range n {
		if _, err := d.s.Feed(ctx, []int32{int32(i)}); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (d *decoding) Close() error { return errors.CombineErrors(d.s.Close(), d.m.Close()) }
