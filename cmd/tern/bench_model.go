package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// benchModel is a model to measure: a file's or, with random weights, a
// configuration's.
type benchModel struct {
	name   string
	path   string // "" is random weights
	config model.Config
}

// weights reads the model's weights or draws them.
func (m benchModel) weights(ctx context.Context, be framework.Backend) (*modelfile.Weights, error) {
	if m.path != "" {
		return openWeights(ctx, be, m.path)
	}
	return randomWeights(ctx, be, m.config)
}

// randomWeights draws and packs the weights of a model.
func randomWeights(ctx context.Context, be framework.Backend, c model.Config) (w *modelfile.Weights, err error) {
	m, err := model.New(c)
	if err != nil {
		return nil, err
	}
	params, err := m.Parameters()
	if err != nil {
		return nil, err
	}
	if err := fitsRandom(be, m, params); err != nil {
		return nil, err
	}
	store, err := be.NewStore()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.CombineErrors(err, store.Close()) }()
	for _, p := range params {
		t := tensor.New(tensor.T(tensor.F32, p.Shape...))
		v := t.F32()
		drawNormal(v, p.Name, p.Init.Mean, p.Init.Std)
		for i := range v {
			if n := len(p.Init.Values); n > 0 {
				v[i] = float32(p.Init.Values[i%n])
			}
		}
		if err := store.Put(ctx, p.Name, t); err != nil {
			return nil, err
		}
	}
	if err := pack(ctx, be, m, store); err != nil {
		return nil, err
	}
	return modelfile.Collect(ctx, m, store)
}

// smallModel is what the scalar backend measures of c, which may be large.
func smallModel(c model.Config) (small model.Config, note string) {
	small = c
	small.Layers, small.Vocab = 1, min(c.Vocab, 2048)
	if c.Layers == small.Layers && c.Vocab == small.Vocab {
		return c, ""
	}
	return small, fmt.Sprintf("by 1 of %d layers and %d of %d tokens of vocabulary, scaled by operations", c.Layers, small.Vocab, c.Vocab)
}

// feeding feeds tokens to a model, one by one or as a prompt.
type feeding struct {
	m      *infer.Model
	s      *infer.Session
	tokens []int32
	single bool
}

func newFeeding(ctx context.Context, be framework.Backend, w *modelfile.Weights, n int, single bool) (*feeding, error) {
	m, err := infer.Load(ctx, be, w)
	if err != nil {
		return nil, err
	}
	s, err := m.NewSession()
	if err != nil {
		return nil, errors.CombineErrors(err, m.Close())
	}
	f := &feeding{m: m, s: s, single: single, tokens: make([]int32, n)}
	for i := range f.tokens {
		f.tokens[i] = int32(i * 31 % m.Config.Vocab)
	}
	return f, nil
}

// Run feeds the tokens from the start of a sequence.
func (f *feeding) Run(ctx context.Context) (float64, error) {
	f.s.Reset()
	if !f.single {
		_, err := f.s.Feed(ctx, f.tokens)
		return float64(len(f.tokens)), err
	}
	for i := range f.tokens {
		if _, err := f.s.Feed(ctx, f.tokens[i:i+1]); err != nil {
			return 0, err
		}
	}
	return float64(len(f.tokens)), nil
}

func (f *feeding) Close() error { return errors.CombineErrors(f.s.Close(), f.m.Close()) }

// streaming continues several sequences side by side.
type streaming struct {
	m *infer.Model
	b *infer.Batch
	n int // tokens of each
}

func newStreaming(ctx context.Context, be framework.Backend, w *modelfile.Weights, streams, n int) (*streaming, error) {
	m, err := infer.Load(ctx, be, w)
	if err != nil {
		return nil, err
	}
	b, err := m.NewBatch(ctx, streams)
	if err != nil {
		return nil, errors.CombineErrors(err, m.Close())
	}
	return &streaming{m, b, n}, nil
}

// Run begins each sequence with another token and feeds what it goes on with.
func (s *streaming) Run(ctx context.Context) (float64, error) {
	s.b.Reset()
	tokens := make([]int32, s.b.Streams())
	for i := range tokens {
		tokens[i] = int32(i * 31 % s.m.Config.Vocab)
	}
	for range s.n {
		next, err := s.b.Feed(ctx, tokens)
		if err != nil {
			return 0, err
		}
		copy(tokens, next)
	}
	return float64(s.n * len(tokens)), nil
}

func (s *streaming) Close() error { return errors.CombineErrors(s.b.Close(), s.m.Close()) }

// modelCase measures decoding or a prompt of n tokens, by several streams at once
// where they are more than one.
func (l *lab) modelCase(ctx context.Context, part string, m benchModel, n, streams int) (benchCase, error) {
	threads := l.threadsOf(part)
	be, err := l.backend(threads[0])
	if err != nil {
		return benchCase{}, err
	}
	var w *modelfile.Weights
	if m.path != "" {
		if w, err = m.weights(ctx, be); err != nil {
			return benchCase{}, err
		}
		m.config = w.Model.Config
	}
	if n > m.config.Context {
		return benchCase{}, usagef("the model's context is shorter", "%d tokens, the context of %s is %d", n, m.name, m.config.Context)
	}
	s, err := sizes(m.config)
	if w != nil {
		s, err = sizesIn(w.Model)
	}
	if err != nil {
		return benchCase{}, err
	}
	single := part == "decode"
	c := benchCase{
		part: part, threads: threads, series: m.name, name: "prompt of " + plural(n, "token"), unit: "tok/s", item: "prompt", units: float64(n), work: s.promptWork(float64(n)),
		params: map[string]any{"model": m.name, "file": m.path, "parameters": s.parameters, "tokens": n, "quant": m.config.Quant, "residual": m.config.Residual},
		values: map[string]string{"model": m.path, "preset": m.name, "prompt": fmt.Sprint(n), "tokens": fmt.Sprint(n)},
	}
	if single {
		c.name, c.item, c.units, c.work = plural(n, "token"), "token", 1, s.decodeWork(float64(n-1)/2)
	}
	c.open = func(ctx context.Context, be framework.Backend) (subject, error) {
		if w == nil { // drawn once for all numbers of threads
			if w, err = m.weights(ctx, be); err != nil {
				return nil, err
			}
		}
		if streams > 1 {
			return newStreaming(ctx, be, w, streams, n)
		}
		return newFeeding(ctx, be, w, n, single)
	}
	if streams > 1 {
		c.name, c.params["streams"], c.values["streams"] = fmt.Sprintf("%s of %d streams", c.name, streams), streams, fmt.Sprint(streams)
		c.work = s.streamsWork(float64(n-1)/2, float64(streams))
		return c, nil // scalar would take minutes
	}
	c.scalar, err = scalarModel(m.config, c.work, n, single)
	return c, err
}

// scalarModel measures a small model and few tokens.
func scalarModel(c model.Config, full work, n int, single bool) (*scalarCase, error) {
	small, note := smallModel(c)
	few := min(n, 16)
	s, err := sizes(small)
	if err != nil {
		return nil, err
	}
	per := s.promptWork(float64(few)).all() / float64(few)
	want := full.all() / float64(n)
	if single {
		per, want = s.decodeWork(float64(few-1)/2).all(), full.all()
	}
	if few != n && note == "" {
		note = "scaled by operations"
	}
	if few != n {
		note = "by " + plural(few, "token") + ", " + strings.TrimPrefix(note, "by ")
	}
	return &scalarCase{factor: per / want, note: note, open: func(ctx context.Context, be framework.Backend) (subject, error) {
		w, err := randomWeights(ctx, be, small)
		if err != nil {
			return nil, err
		}
		return newFeeding(ctx, be, w, few, single)
	}}, nil
}

// modelFlags are those of tern bench decode and prefill.
type modelFlags struct {
	part    string
	path    string
	s       *settings
	tokens  int
	streams int
}

func newBenchDecodeCmd(a *app) *cobra.Command {
	return newBenchModelCmd(a, "decode", "tokens", 64, "Measure writing text, token by token",
		"Feeds tokens one by one from an empty context, as tern generate does; choosing them is left out.")
}

func newBenchPrefillCmd(a *app) *cobra.Command {
	return newBenchModelCmd(a, "prefill", "prompt", 512, "Measure reading a prompt", "Feeds a prompt of so many tokens at once from an empty context.")
}

func newBenchModelCmd(a *app, part, count string, n int, short, long string) *cobra.Command {
	var f benchFlags
	m := modelFlags{part: part, s: benchSettings("nano-125m")}
	cmd := &cobra.Command{
		Use: part, Short: short, Args: noArgs,
		Long: long + "\nThe model is a file's or, with random weights, a preset's.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), f, part, m.cases(a)) },
	}
	fs := cmd.Flags()
	fs.StringVar(&m.path, "model", "", "GGUF file, checkpoint or run; without it random weights")
	fs.IntVar(&m.tokens, count, n, "tokens")
	if part == "decode" {
		fs.IntVar(&m.streams, "streams", 1, "sequences continued at once, each by its likeliest token")
	}
	f.add(fs, 5, 0.2)
	m.s.addSome(fs, append([]string{"preset"}, modelKeys...))
	return cmd
}

func (m modelFlags) cases(a *app) casesOf {
	return func(ctx context.Context, l *lab, _ string) ([]benchCase, error) {
		if m.tokens < 1 || m.tokens > 1<<20 {
			return nil, usagef("choose at least 1", "%d tokens", m.tokens)
		}
		if m.streams < 0 || m.streams > infer.MaxBatch || m.part == "decode" && m.streams == 0 {
			return nil, usagef(fmt.Sprintf("choose 1 to %d", infer.MaxBatch), "--streams %d", m.streams)
		}
		b := benchModel{path: m.path, name: filepath.Base(m.path)}
		if m.path == "" {
			var err error
			if b, err = presetModel(a, m.s); err != nil {
				return nil, err
			}
		}
		c, err := l.modelCase(ctx, m.part, b, m.tokens, m.streams)
		return []benchCase{c}, err
	}
}

// presetModel is the model that settings describe.
func presetModel(a *app, s *settings) (m benchModel, err error) {
	// A window fits any context: there is none here.
	if err := s.set.Flags().Set("window", "1"); err != nil {
		return m, err
	}
	if err := s.load(a); err != nil {
		return m, err
	}
	if err := s.resolve(nil); err != nil {
		return m, err
	}
	m.config = s.Model
	m.name, err = modelName(s)
	return m, err
}

// modelName is the preset's name or, where something was changed, the number
// of parameters.
func modelName(s *settings) (string, error) {
	for _, k := range modelKeys {
		if s.set.Origin(k).Layer != "preset" && s.set.Origin(k).Layer != "recipe" {
			n, err := sizes(s.Model)
			return fmt.Sprintf("%.1fM", float64(n.parameters)/1e6), err
		}
	}
	return s.Preset, nil
}

// benchSettings are settings with another preset by default.
func benchSettings(preset string) *settings {
	s := newSettings()
	s.set.Flag("preset").DefValue, s.Preset = preset, preset
	return s
}
