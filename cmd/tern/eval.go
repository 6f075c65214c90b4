package main

import (
	"context"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/stories"
	"github.com/ternlm/tern/train"
)

// evalCmd holds the flags of tern eval.
type evalCmd struct {
	model   string
	data    string
	windows int
	window  int
	batch   int
	backend backendFlags
	json    bool
}

// evaluation is what tern eval reports.
type evaluation struct {
	Model   string `json:"model"`
	Data    string `json:"data"`
	Backend string `json:"backend"`
	Windows int    `json:"windows"`
	Window  int    `json:"window"`
	train.Score
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"tokens_per_s"`
}

func newEvalCmd(a *app) *cobra.Command {
	var c evalCmd
	cmd := &cobra.Command{
		Use:   "eval",
		Short: "Measure how well a model predicts a text",
		Long: "Prints the loss in nats a token, the perplexity and the bits per byte of text, which compare between tokenizers.\n" +
			"The context starts afresh in each window.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context(), a) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&c.model, "model", "", "GGUF file, checkpoint or run; without it the model that ships with tern")
	fs.StringVar(&c.data, "data", "", "token file, or for a model with a tokenizer of its own a text; without it the embedded validation stories")
	fs.IntVar(&c.windows, "windows", 512, "windows to read; 0 is all")
	fs.IntVar(&c.window, "window", 0, "tokens in a window; 0 is 256, or the model's context where that is shorter")
	fs.IntVar(&c.batch, "batch", 8, "windows at a time; does not change the result")
	c.backend.add(fs)
	fs.BoolVar(&c.json, "json", false, "write JSON")
	return cmd
}

func (c evalCmd) run(ctx context.Context, a *app) (err error) {
	be, err := c.backend.open(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, be.Close()) }()
	w, err := openWeightsOr(ctx, be, c.model)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, w.Close()) }()
	if c.window == 0 {
		c.window = min(256, w.Model.Context)
	}
	if c.window < 1 || c.window > w.Model.Context {
		return usagef("choose from 1 to the model's context", "--window %d, the model's context is %d", c.window, w.Model.Context)
	}
	r, err := c.score(ctx, be, w)
	if err != nil {
		return err
	}
	if c.json {
		return a.json(r)
	}
	a.printf("model    %s\ndata     %s: %s windows of %d tokens, %s tokens, %s bytes\n", r.Model, r.Data,
		thousands(r.Windows), r.Window, thousands(r.Tokens), thousands(r.Bytes))
	a.printf("result   %s\nspeed    %s tok/s on %s\n", scoreText(r.Score), perSecond(r.PerSecond), r.Backend)
	return nil
}

// score evaluates w.
func (c evalCmd) score(ctx context.Context, be framework.Backend, w *modelfile.Weights) (r evaluation, err error) {
	t, err := openEvalText(ctx, c.data, w)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.CombineErrors(err, t.Close()) }()
	e, err := train.NewEvaluator(ctx, be, w.Model, modelfile.Pass, t.Tokens, c.batch, c.window, c.windows)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.CombineErrors(err, e.Close()) }()
	s, err := be.NewStore()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.CombineErrors(err, s.Close()) }()
	if err := w.Put(ctx, s); err != nil {
		return r, err
	}
	begin := time.Now()
	score, err := e.Run(ctx, s)
	name := c.model
	if name == "" {
		name = "the model that ships with tern"
	}
	r = evaluation{
		Model: name, Data: t.Name, Backend: be.Name(), Windows: score.Tokens / c.window, Window: c.window,
		Score: score, Seconds: time.Since(begin).Seconds(),
	}
	r.PerSecond = float64(score.Tokens) / r.Seconds
	return r, err
}

// openWeightsOr reads the model at path, or the one that ships with tern.
func openWeightsOr(ctx context.Context, be framework.Backend, path string) (*modelfile.Weights, error) {
	if path != "" {
		return openWeights(ctx, be, path)
	}
	f, err := stories.Open()
	if err != nil {
		return nil, err
	}
	w, err := modelfile.FromGGUF(f)
	return w, errors.Wrap(err, "the model that ships with tern")
}
