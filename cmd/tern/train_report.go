package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/checkpoint"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/train"
)

// announce says what will be trained, where it computes and where it saves.
func (j *job) announce() error {
	s, m := j.s, j.s.Model
	j.info.Program, j.info.Machine, j.info.Backend = buildVersion(), machine(), describe(j.be)
	j.info.Git = readGit(j.info.Program)
	j.info.Plugin = hosts.Load().records(s.Run.Backend)
	j.info.Started, j.info.Resumed = time.Now().UTC(), j.start.dir
	j.info.Settings, j.info.Config = s.set.Settings(), j.config

	rows := rowsOf(j.trainer.Model, j.trainer.Parameters(), nil)
	line := func(name, format string, args ...any) { j.a.note("%-9s %s", name, fmt.Sprintf(format, args...)) }
	line("model", "%s: %d layers, width %d, %d heads, ffn %d, context %d, vocabulary %s (%s)",
		s.Preset, m.Layers, m.Dim, m.Heads, m.FFN, m.Context, thousands(m.Vocab), m.Tokenizer)
	line("", "%s", countsText(rows))
	line("", "quantizer %s, residual %s", m.Quant, m.Residual)
	line("data", "%s: %s tokens", j.train.Name, thousands(j.train.Len()))
	line("", "%s: %s tokens", j.valid.Name, thousands(j.valid.Len()))
	line("backend", "%s on %s", j.info.Backend.Name, strings.Join(append([]string{j.device()}, j.how()...), ", "))
	perStep, steps := s.Recipe.TokensPerStep(), s.Recipe.Steps
	line("recipe", "%s: %s steps of %s tokens = %s tokens, %.1f times the text; %s", s.RecipeName, thousands(steps), thousands(perStep),
		thousands(steps*perStep), float64(steps)*float64(s.Recipe.Batch*s.Recipe.Accum)/float64(j.batches.Len()), s.Recipe.Optimizer)
	every := "at the end"
	if n := interval(s.Run.SaveEvery, steps, 4, 1000); n > 0 {
		every = fmt.Sprintf("every %s steps", thousands(n))
	}
	line("saves", "%s %s", s.Run.Out, every)
	if j.start.dir != "" {
		line("resumes", "%s, step %s", j.start.dir, thousands(j.trainer.Done()))
	}
	return nil
}

// device is where the job computes: on the processor, by the name that the system
// has for it, or on what the backend says.
func (j *job) device() string {
	if cpu := j.info.Machine.CPU; cpu != "" && !onDevice(j.be) {
		return cpu
	}
	return j.info.Backend.Device
}

// how is what there is to say of the backend beside its device.
func (j *job) how() []string {
	if n := j.info.Backend.Threads; n > 0 {
		return []string{plural(n, "thread")}
	}
	return j.info.Backend.Notes
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// countsText lists parameters by category.
func countsText(rows []modelRow) string {
	total, parts := 0, make([]string, 0, len(rows))
	for _, r := range rows {
		total += r.Parameters
		parts = append(parts, r.Category+" "+thousands(r.Parameters))
	}
	return thousands(total) + " parameters: " + strings.Join(parts, ", ")
}

// trainResult is what a finished training reports.
type trainResult struct {
	Trained  train.Score `json:"trained"`
	Exported train.Score `json:"exported"` // of the file, read back
	Windows  int         `json:"windows"`
	GGUF     string      `json:"gguf"`
	MHC      string      `json:"mhc,omitempty"`
	Bytes    int64       `json:"gguf_bytes"`
	Seconds  float64     `json:"seconds"` // of everything, from the start of this process
	Story    string      `json:"story"`
}

// conclude evaluates and exports the model, reads the file back, evaluates
// that, and writes a story from it.
func (j *job) conclude(ctx context.Context) error {
	ctx, end := j.a.untilStopped(ctx)
	defer end()
	r, back, err := j.deliver(ctx)
	if err != nil {
		return hintSaved(ctx, err)
	}
	if !j.o.json {
		j.printScores(r)
	}
	if err := j.story(ctx, back, &r); err != nil {
		return hintSaved(ctx, err)
	}
	if err := j.record(&r); err != nil {
		return err
	}
	if j.o.json {
		return json.NewEncoder(j.a.stdout).Encode(map[string]any{"result": r})
	}
	j.printNext(r)
	return nil
}

// untilStopped is ctx, done at the first signal too: when nothing is left to
// save, a command that obeys signals by itself ends like any other.
func (a *app) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	select {
	case <-a.stop: // at once, whenever the goroutine below would get its turn
		cancel()
		return ctx, cancel
	default:
	}
	go func() {
		select {
		case <-a.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// hintSaved says what is left of a training that was stopped after its last step.
func hintSaved(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return errors.WithHint(err, "the training is done and saved: the same command with --resume auto evaluates and exports it")
}

// deliver evaluates and exports the model, reads the file back and evaluates
// that.
func (j *job) deliver(ctx context.Context) (r trainResult, back *modelfile.Weights, err error) {
	r.GGUF = filepath.Join(j.s.Run.Out, modelFile)
	if r.Trained, r.Windows, err = j.score(ctx, model.Pass{Packed: true}, nil); err != nil {
		return r, nil, err
	}
	w, err := modelfile.Collect(ctx, j.model, j.trainer.Store())
	if err != nil {
		return r, nil, err
	}
	w.Info = modelfile.Info{
		Name: "tern " + j.s.Preset, CreatedBy: buildVersion().String(), BitsPerByte: r.Trained.BitsPerByte,
		Description: describeTraining(j.s.Recipe.Steps, j.s.Recipe.TokensPerStep(), j.train.Name),
		Source:      sourceOf(filepath.Join(j.s.Run.Out, checkpoint.Name(int(j.s.Recipe.Steps)))),
	}
	if r.MHC, err = export(w, r.GGUF); err != nil {
		return r, nil, err
	}
	if back, err = modelfile.ReadGGUF(r.GGUF); err != nil {
		return r, nil, errors.Wrap(err, "read the exported model back")
	}
	if r.Exported, _, err = j.score(ctx, modelfile.Pass, back); err != nil {
		return r, nil, err
	}
	if info, err := os.Stat(r.GGUF); err == nil {
		r.Bytes = info.Size()
	}
	return r, back, nil
}

// record adds the result to run.json.
func (j *job) record(r *trainResult) error {
	r.Seconds = time.Since(j.info.Started).Seconds()
	j.info.Result = r
	return j.info.write(j.s.Run.Out)
}

// score evaluates w, or the model in training where w is nil.
func (j *job) score(ctx context.Context, p model.Pass, w *modelfile.Weights) (train.Score, int, error) {
	store := j.trainer.Store()
	if w != nil {
		s, err := j.be.NewStore()
		if err != nil {
			return train.Score{}, 0, err
		}
		defer s.Close()
		if err := w.Put(ctx, s); err != nil {
			return train.Score{}, 0, err
		}
		store = s
	}
	window := j.s.Recipe.Window
	e, err := train.NewEvaluator(ctx, j.be, j.model, p, j.valid.Tokens, j.evalBatch(), window, j.s.Run.FinalWindows)
	if err != nil {
		return train.Score{}, 0, err
	}
	defer e.Close()
	score, err := e.Run(ctx, store)
	return score, score.Tokens / window, err
}

// scoreText is an evaluation in one line.
func scoreText(s train.Score) string {
	perplexity := fmt.Sprintf("%.2f", s.Perplexity)
	if s.Perplexity >= 1e6 {
		perplexity = scientific(s.Perplexity)
	}
	return fmt.Sprintf("loss %.4f | perplexity %s | %.4f bits per byte", s.Loss, perplexity, s.BitsPerByte)
}

func (j *job) printScores(r trainResult) {
	j.a.printf("trained   %s\n", scoreText(r.Trained))
	j.a.printf("exported  %s\n", scoreText(r.Exported))
	j.a.printf("          on %s windows, %s tokens that it did not train on\n", thousands(r.Windows), thousands(r.Trained.Tokens))
	j.a.printf("saved     %s, %s\n", r.GGUF, size(r.Bytes))
	if r.MHC != "" {
		j.a.printf("          %s\n", r.MHC)
	}
}

// story writes a text from the exported model.
func (j *job) story(ctx context.Context, w *modelfile.Weights, r *trainResult) error {
	m, err := infer.Load(ctx, j.be, w)
	if err != nil {
		return err
	}
	tok, err := w.Tokenizer()
	if err != nil {
		return errors.CombineErrors(err, m.Close())
	}
	g := generation{Sampling: infer.Sampling{Temperature: 0.8, TopK: 40, Seed: 1}, Tokens: 200}
	var text strings.Builder
	show := func(s string) error {
		text.WriteString(s)
		if j.o.json {
			return nil
		}
		_, err := io.WriteString(j.a.stdout, s)
		return err
	}
	if !j.o.json {
		j.a.printf("\nA story from the exported file (temperature 0.8, top-k 40, seed 1):\n\n")
	}
	_, err = g.run(ctx, m, tok, j.s.Run.Prompt, show)
	r.Story = text.String()
	if !j.o.json {
		j.a.printf("\n")
	}
	return errors.CombineErrors(err, m.Close())
}

func (j *job) printNext(r trainResult) {
	j.a.printf("\nNext:\n  %s generate --model %s \"The little dog\"\n  %s eval --model %s --windows 0\n  %s inspect %s\n",
		self(), r.GGUF, self(), r.GGUF, self(), r.GGUF)
}
