package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

// benchMemory is what training takes.
type benchMemory struct {
	States  int64 `json:"states_bytes"`   // parameters, gradients, moments, packed weights
	Planned int64 `json:"planned_bytes"`  // values and layouts beside them, of the larger graph
	PeakRSS int64 `json:"peak_rss_bytes"` // of the process after the first step; 0 where nobody tells
	Device  int64 `json:"device_bytes"`   // in use after it in the device's own memory, by whomever; 0 where it has none
}

// newTraining readies steps of a model on tokens drawn at random.
func newTraining(ctx context.Context, be framework.Backend, c model.Config, r train.Recipe) (*training, error) {
	m, err := model.New(c)
	if err != nil {
		return nil, err
	}
	t, err := train.New(ctx, be, m, r)
	if err != nil {
		return nil, err
	}
	if err := t.Initialize(ctx); err != nil {
		return nil, errors.CombineErrors(err, t.Close())
	}
	return &training{t: t}, nil
}

// training takes steps on tokens drawn at random.
type training struct {
	t     *train.Trainer
	drawn uint64
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

// trainCase measures optimizer steps.
func (l *lab) trainCase(name string, c model.Config, r train.Recipe) (benchCase, error) {
	if err := r.Validate(c); err != nil {
		return benchCase{}, err
	}
	s, err := sizes(c)
	if err != nil {
		return benchCase{}, err
	}
	muon, err := muonWork(c, r)
	if err != nil {
		return benchCase{}, err
	}
	n := r.TokensPerStep()
	out := benchCase{
		part: "train", threads: l.threadsOf("train"), series: name, name: fmt.Sprintf("%s of %d", plural(r.Batch*r.Accum, "window"), r.Window),
		unit: "tok/s", item: "step", units: float64(n), work: s.trainWork(r, muon),
		params: map[string]any{
			"model": name, "parameters": s.parameters, "batch": r.Batch, "accum": r.Accum, "window": r.Window, "optimizer": r.Optimizer,
			"quant": c.Quant, "residual": c.Residual,
		},
		values: map[string]string{"model": name, "preset": name, "batch": fmt.Sprint(r.Batch), "window": fmt.Sprint(r.Window), "tokens": fmt.Sprint(n)},
		open:   func(ctx context.Context, be framework.Backend) (subject, error) { return newTraining(ctx, be, c, r) },
	}
	out.opened = func(row *benchRow) {
		if row.Memory, err = l.trainMemory(c, r); err != nil {
			row.Memory = nil // the run says what is wrong with the graph
		}
	}
	out.scalar, err = scalarTraining(c, r, out.work)
	return out, err
}

// scalarTraining measures a small model and batch.
func scalarTraining(c model.Config, r train.Recipe, full work) (*scalarCase, error) {
	small, note := smallModel(c)
	few := r
	few.Batch, few.Accum, few.Window = 1, 1, min(r.Window, 32)
	s, err := sizes(small)
	if err != nil {
		return nil, err
	}
	muon, err := muonWork(small, few)
	if err != nil {
		return nil, err
	}
	if note == "" {
		note = "scaled by operations"
	}
	note = fmt.Sprintf("by 1 window of %d, %s", few.Window, strings.TrimPrefix(note, "by "))
	per := s.trainWork(few, muon).all() / float64(few.TokensPerStep())
	return &scalarCase{factor: per / full.all() * float64(r.TokensPerStep()), note: note, open: func(ctx context.Context, be framework.Backend) (subject, error) {
		return newTraining(ctx, be, small, few)
	}}, nil
}

// trainMemory asks the backend and the system.
func (l *lab) trainMemory(c model.Config, r train.Recipe) (*benchMemory, error) {
	out := &benchMemory{PeakRSS: statusBytes("VmHWM:")}
	m, err := model.New(c)
	if err != nil {
		return nil, err
	}
	accumulate, err := m.Accumulate(r.Batch, r.Window, r.Accum)
	if err != nil {
		return nil, err
	}
	apply, err := train.Apply(m, r)
	if err != nil {
		return nil, err
	}
	be, err := l.backend(l.threadsOf("train")[0])
	if err != nil {
		return nil, err
	}
	if m, ok := be.(framework.OwnMemory); ok {
		free, total, err := m.Memory()
		if err != nil {
			return nil, err
		}
		out.Device = total - free
	}
	seen := map[string]bool{}
	for _, g := range []*graph.Graph{accumulate, apply} {
		for _, n := range g.States {
			if !seen[n.Name()] {
				out.States += int64(n.Out[0].Bytes())
			}
			seen[n.Name()] = true
		}
		if e, ok := be.(framework.Estimator); ok {
			bytes, err := e.Estimate(g)
			if err != nil {
				return nil, err
			}
			out.Planned = max(out.Planned, bytes)
		}
	}
	return out, nil
}

// forgetPeak starts the system's high-water mark of this process anew, where
// it can.
func forgetPeak() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // elsewhere the mark is the process's
}

// statusBytes reads a field of /proc/self/status; 0 where there is none.
func statusBytes(field string) int64 {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		var kib int64
		if rest, ok := strings.CutPrefix(line, field); ok {
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// trainFlags are those of tern bench train.
type trainFlags struct {
	s    *settings
	only bool // leave the second model out
}

func newBenchTrainCmd(a *app) *cobra.Command {
	var f benchFlags
	t := trainFlags{s: benchSettings("nano-125m")}
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Measure training",
		Long: "Measures optimizer steps on tokens drawn at random. Without a flag that changes the model it measures nano-125m and a\n" +
			"13.8M version of it (6 layers, width 384, vocabulary 4096). Where no --recipe, --batch, --accum or --optimizer is given it\n" +
			"takes 4 windows a step and AdamW. Each number of --threads holds a training of its own in memory.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), f, "train", t.cases(a)) },
	}
	f.add(cmd.Flags(), 5, 0.2)
	t.s.addSome(cmd.Flags(), slices.Concat([]string{"preset", "recipe", "batch", "accum", "window", "optimizer"}, modelKeys))
	return cmd
}

// small13M changes nano-125m to a model that trains in a day.
func small13M(c model.Config) model.Config {
	c.Tokenizer, c.Vocab, c.Dim, c.Layers, c.Heads, c.KVHeads, c.FFN = "gpt2:4096", 4096, 384, 6, 6, 6, 1024
	return c
}

func (t trainFlags) cases(a *app) casesOf {
	return func(_ context.Context, l *lab, _ string) ([]benchCase, error) {
		if err := t.resolve(a); err != nil {
			return nil, err
		}
		name, err := modelName(t.s)
		if err != nil {
			return nil, err
		}
		c, err := l.trainCase(name, t.s.Model, t.s.Recipe)
		if err != nil || t.only || t.changesModel() {
			return []benchCase{c}, err
		}
		second, err := l.trainCase("13.8M", small13M(t.s.Model), t.s.Recipe)
		return []benchCase{c, second}, err
	}
}

// resolve sets the model and the recipe.
func (t trainFlags) resolve(a *app) error {
	if err := t.s.load(a); err != nil {
		return err
	}
	if _, given := t.s.set.Given("recipe"); !given {
		for k, v := range map[string]string{"batch": "4", "accum": "1", "optimizer": "adamw"} {
			if _, given := t.s.set.Given(k); given {
				continue
			}
			if err := t.s.set.Flags().Set(k, v); err != nil {
				return err
			}
		}
		if err := t.s.load(a); err != nil { // again, for these
			return err
		}
	}
	return t.s.resolve(nil)
}

func (t trainFlags) changesModel() bool {
	for _, k := range append([]string{"preset"}, modelKeys...) {
		if _, given := t.s.set.Given(k); given {
			return true
		}
	}
	return false
}
