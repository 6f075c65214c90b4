package train

import (
	"context"
	"encoding/json"
	"path/filepath"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/diagnose"
	"github.com/ternlm/tern/formats/checkpoint"
	"github.com/ternlm/tern/model"
)

// ErrStopped is returned when a run was asked to stop; everything up to the
// last whole step is saved.
var ErrStopped = errors.New("stopped")

// Plan says how a run saves, evaluates and reports. Intervals are in steps; 0
// means only at the end.
type Plan struct {
	Dir        string // of checkpoints and metrics
	Config     json.RawMessage
	SaveEvery  int
	EvalEvery  int
	LogEvery   int
	Keep       int // checkpoints kept; 0 is all
	EvalLimit  int // windows of the evaluations on the way; 0 is all
	Stop       <-chan struct{}
	Observe    func(Event)
	CreatedBy  string
	Valid      *data.Tokens // text of the evaluations
	EvalBatch  int          // windows that an evaluation takes at once
	EvalWindow int          // tokens of its windows
}

// Event is one line of a run's metrics.
type Event struct {
	Metrics
	Steps     int        `json:"steps"`
	Tokens    int64      `json:"tokens"`       // targets seen since the start of the training
	PerSecond float64    `json:"tokens_per_s"` // of training alone, since the last event
	Seconds   float64    `json:"seconds"`      // since this process began to train
	ETA       float64    `json:"eta_s"`
	Valid     *Score     `json:"valid,omitempty"`
	Diagnosis *Diagnosis `json:"diagnosis,omitempty"`
	Saved     string     `json:"saved,omitempty"` // directory of a checkpoint
}

// run is the state of Run.
type run struct {
	t       *Trainer
	p       Plan
	batches *data.Batches
	eval    *Evaluator
	diag    *Diagnoser
	metrics *metricsFile
	start   time.Time
	spent   time.Duration // in training steps since the last event
	tokens  int           // trained on since the last event
	rate    float64       // tokens/s, smoothed, for the ETA
	saved   int           // step of the last checkpoint
}

// Batches returns the training windows that recipe r draws from tokens.
func (r Recipe) Batches(tokens *data.Tokens) (*data.Batches, error) {
	return tokens.Batches(data.BatchOptions{
		Batch: r.Batch, Window: r.Window, Stride: r.Stride, Shuffle: true, Seed: r.Seed, AlignStories: r.Align,
	})
}

// Run trains t from where it is to the end of its recipe, saving, evaluating
// and reporting on the way. The trainer was initialized, or restored together
// with batches.
func Run(ctx context.Context, t *Trainer, batches *data.Batches, p Plan) (err error) {
	r := &run{t: t, p: p, batches: batches, start: time.Now(), saved: -1}
	defer func() { err = errors.CombineErrors(err, r.close()) }()
	if err := r.open(ctx); err != nil {
		return err
	}
	for t.Done() < t.Recipe.Steps {
		select {
		case <-p.Stop:
			return r.stop(ctx)
		default:
		}
		if err := r.step(ctx); err != nil {
			return r.hintKept(err)
		}
	}
	return nil
}

// hintKept says what is left of a training that diverged.
func (r *run) hintKept(err error) error {
	if !errors.Is(err, ErrDiverged) {
		return err
	}
	kept, listErr := checkpoint.List(r.p.Dir)
	if listErr != nil || len(kept) == 0 {
		return errors.WithHint(err, "no checkpoint had been saved before")
	}
	return errors.WithHintf(err, "the checkpoint %s from before is untouched", kept[0].Dir)
}

func (r *run) open(ctx context.Context) error {
	var err error
	pass := model.Pass{Packed: true}
	if r.eval, err = NewEvaluator(ctx, r.t.backend, r.t.Model, pass, r.p.Valid, r.p.EvalBatch, r.p.EvalWindow, r.p.EvalLimit); err != nil {
		return err
	}
	text, err := diagnose.FirstWindows(r.p.Valid, min(2, r.t.Recipe.Batch), r.p.EvalWindow)
	if err != nil {
		return err
	}
	if r.diag, err = NewDiagnoser(ctx, r.t, text); err != nil {
		return err
	}
	r.metrics, err = openMetrics(filepath.Join(r.p.Dir, "metrics.jsonl"), r.t.Done())
	return err
}

// close frees what open made.
func (r *run) close() (err error) {
	if r.metrics != nil {
		err = r.metrics.Close()
	}
	if r.eval != nil {
		err = errors.CombineErrors(err, r.eval.Close())
	}
	if r.diag != nil {
		err = errors.CombineErrors(err, r.diag.Close())
	}
	return err
}

// step takes one optimizer step and whatever is due after it.
func (r *run) step(ctx context.Context) error {
	begin := time.Now()
	m, err := r.t.Step(ctx, r.batches)
	if err != nil {
		return err
	}
	r.spent += time.Since(begin)
	r.tokens += r.t.Recipe.TokensPerStep()
	last := m.Step == r.t.Recipe.Steps
	due := func(every int) bool { return last || every > 0 && m.Step%every == 0 }
	if !due(r.p.LogEvery) && !due(r.p.EvalEvery) && !due(r.p.SaveEvery) && m.Step > 1 {
		return nil
	}
	e := r.event(m)
	if due(r.p.EvalEvery) {
		if err := r.evaluate(ctx, &e); err != nil {
			return err
		}
	}
	if due(r.p.SaveEvery) {
		e.Saved = filepath.Join(r.p.Dir, checkpoint.Name(m.Step))
	}
	// Metrics come first: a process that is killed before the checkpoint is there
	// takes the step again, and writes its line again. The other way round the
	// line would be missing for good.
	if err := r.metrics.Write(e); err != nil {
		return err
	}
	if e.Saved != "" {
		if _, err := r.save(ctx); err != nil {
			return err
		}
	}
	if r.p.Observe != nil {
		r.p.Observe(e)
	}
	return nil
}

func (r *run) event(m Metrics) Event {
	rc := r.t.Recipe
	e := Event{Metrics: m, Steps: rc.Steps, Tokens: int64(m.Step) * int64(rc.TokensPerStep()), Seconds: time.Since(r.start).Seconds()}
	e.PerSecond = float64(r.tokens) / max(r.spent.Seconds(), 1e-9)
	if r.rate == 0 {
		r.rate = e.PerSecond
	}
	r.rate = 0.7*r.rate + 0.3*e.PerSecond
	e.ETA = float64(rc.Steps-m.Step) * float64(rc.TokensPerStep()) / r.rate
	r.spent, r.tokens = 0, 0
	return e
}

func (r *run) evaluate(ctx context.Context, e *Event) error {
	score, err := r.eval.Run(ctx, r.t.store)
	if err != nil {
		return err
	}
	d, err := r.diag.Run(ctx)
	if err != nil {
		return err
	}
	if !finite(score.Loss) || !d.Finite() {
		return r.t.diverged(ctx, e.Metrics)
	}
	e.Valid, e.Diagnosis = &score, &d
	return nil
}

func (r *run) save(ctx context.Context) (string, error) {
	s := r.t.stream(ctx, r.batches, r.p.Config)
	s.CreatedBy = r.p.CreatedBy
	dir, err := checkpoint.Save(r.p.Dir, s)
	if errors.Is(err, ErrDiverged) {
		return "", err
	}
	if err != nil {
		return "", errors.Wrapf(err, "save step %d", s.Step)
	}
	r.saved = s.Step
	if r.p.Keep > 0 {
		if _, err := checkpoint.Prune(r.p.Dir, r.p.Keep); err != nil {
			return "", errors.Wrap(err, "remove old checkpoints")
		}
	}
	return dir, nil
}

// stop saves what is not saved yet.
func (r *run) stop(ctx context.Context) error {
	if r.saved != r.t.Done() && r.t.Done() > 0 {
		if _, err := r.save(ctx); err != nil {
			return err
		}
	}
	err := errors.Wrapf(ErrStopped, "after step %d of %d", r.t.Done(), r.t.Recipe.Steps)
	if r.t.Done() == 0 {
		return errors.WithHint(err, "nothing is saved yet: run the same command with --resume auto to begin again")
	}
	return errors.WithHint(err, "run the same command with --resume auto to go on")
}
