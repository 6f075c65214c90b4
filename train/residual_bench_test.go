package train_test

import (
	"context"
	"slices"
	"testing"
	"time"

	_ "github.com/ternlm/tern/backends/all"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

// drawnTokens gives windows of tokens drawn at random.
type drawnTokens struct {
	vocab int
	drawn uint64
}

func (d *drawnTokens) Next(tokens, targets []int32) error {
	key := rng.NewKey(1, "bench")
	for i := range tokens {
		tokens[i] = int32(key.Float64(d.drawn) * float64(d.vocab))
		targets[i] = int32(key.Float64(d.drawn+1) * float64(d.vocab))
		d.drawn += 2
	}
	return nil
}

// BenchmarkResiduals takes steps of nano-125m (4 windows of 256 tokens, AdamW)
// with several residuals in turn, and reports how much longer they take than
// those with the standard one, in percent: the median over the rounds of ratios
// within a round. It takes 10 GB of memory; 5 rounds, -benchtime 5x, some
// minutes.
func BenchmarkResiduals(b *testing.B) {
	specs := []string{"standard", "mhclite:streams=2", "mhclite:streams=4,mode=dynamic", "standard"}
	ctx := context.Background()
	be, err := framework.Backends.Open("avx2")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = be.Close() }()
	trainers := make([]*train.Trainer, len(specs))
	source := &drawnTokens{}
	for i, spec := range specs {
		if trainers[i], err = benchTrainer(ctx, be, spec); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = trainers[i].Close() }()
		source.vocab = trainers[i].Model.Vocab
	}
	step := func(t *train.Trainer) float64 {
		begin := time.Now()
		if _, err := t.Step(ctx, source); err != nil {
			b.Fatal(err)
		}
		return time.Since(begin).Seconds()
	}
	for _, t := range trainers { // lays weights out
		step(t)
	}
	over := make([][]float64, len(specs))
	for b.Loop() {
		first := step(trainers[0])
		for i := 1; i < len(trainers); i++ {
			over[i] = append(over[i], 100*(step(trainers[i])/first-1))
		}
	}
	b.ReportMetric(middle(over[1]), "static-n2-%")
	b.ReportMetric(middle(over[2]), "dynamic-n4-%")
	b.ReportMetric(middle(over[3]), "same-again-%") // what the machine's noise is worth
}

// middle is the median.
func middle(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func benchTrainer(ctx context.Context, be framework.Backend, residual string) (*train.Trainer, error) {
	c, err := model.Preset("nano-125m")
	if err != nil {
		return nil, err
	}
	c.Residual = residual
	r, err := train.LookupRecipe("default")
	if err != nil {
		return nil, err
	}
	r.Optimizer = "adamw"
	m, err := model.New(c)
	if err != nil {
		return nil, err
	}
	t, err := train.New(ctx, be, m, r)
	if err != nil {
		return nil, err
	}
	return t, t.Initialize(ctx)
}
