//go:build unix

package plugins

import (
	"context"
	"slices"
	"syscall"
	"testing"

	_ "github.com/ternlm/tern/backends/all"
	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/data/tinystories"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

// cpuSeconds is the processor time that this process has used, user and system.
func cpuSeconds(tb testing.TB) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkStepBuiltInAndPlugin takes training steps of the preset tiny (4 windows
// of 256 tokens) with the built-in ternary quantizer, with the same as a plugin,
// and with the built-in one again, in turn, and reports what the second and the
// third take of processor time more than the first, in percent: the median over
// the rounds of ratios within a round. The third is what the machine's noise is
// worth. 5 rounds: -benchtime 5x.
func BenchmarkStepBuiltInAndPlugin(b *testing.B) {
	dial(b, "ternary")
	ctx := context.Background()
	be, err := framework.Backends.Open("avx2")
	if err != nil {
		b.Skip(err)
	}
	defer func() { _ = be.Close() }()
	r := must(train.LookupRecipe("default"))
	r.Batch, r.Accum, r.Window = 4, 1, 256
	src := must(r.Batches(must(data.TokenizeText(ctx, must(tinystories.Valid())[:200_000], "gpt2:4096"))))
	var trainers []*train.Trainer
	for _, quant := range []string{"ternary:group=128", "plugin:ternary:group=128", "ternary:group=128"} {
		c := must(model.Preset("tiny"))
		c.Quant = quant
		tr := must(train.New(ctx, be, must(model.New(c)), r))
		defer func() { _ = tr.Close() }()
		if err := tr.Initialize(ctx); err != nil {
			b.Fatal(err)
		}
		trainers = append(trainers, tr)
	}
	const steps = 4
	round := func(tr *train.Trainer) float64 {
		begin := cpuSeconds(b)
		for range steps {
			if _, err := tr.Step(ctx, src); err != nil {
				b.Fatal(err)
			}
		}
		return cpuSeconds(b) - begin
	}
	for _, tr := range trainers { // lays weights out
		round(tr)
	}
	var first []float64
	over := make([][]float64, 3)
	for b.Loop() {
		builtIn := round(trainers[0])
		first = append(first, builtIn/steps)
		for i := 1; i < 3; i++ {
			over[i] = append(over[i], 100*(round(trainers[i])/builtIn-1))
		}
	}
	b.ReportMetric(median(first), "cpu-s/step")
	b.ReportMetric(median(over[1]), "plugin-%")
	b.ReportMetric(median(over[2]), "same-again-%")
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
