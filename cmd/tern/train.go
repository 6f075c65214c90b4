package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/internal/config"
	"github.com/ternlm/tern/internal/filelock"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

func newTrainCmd(a *app) *cobra.Command {
	s := newSettings()
	var o trainOutput
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Train a model; without flags a small one, on embedded stories, in minutes",
		Long: "Trains a model, evaluates and exports it, reads the exported file back, evaluates that, and writes a story from it.\n\n" +
			"Values come from flags, then from variables TERN_NAME (TERN_MATRIX_LR for --matrix-lr), then from the --config file,\n" +
			"then from the preset and the recipe. tern config print shows them all.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.train(cmd.Context(), s, o)
		},
	}
	s.addTo(cmd.Flags())
	cmd.Flags().BoolVar(&o.json, "json", false, "write events and the result to standard output, one JSON object a line")
	cmd.Flags().BoolVar(&o.plain, "plain", false, "write plain lines of progress, as when there is no terminal")
	return cmd
}

// trainOutput says how a training reports.
type trainOutput struct{ json, plain bool }

// job is a training that is set up.
type job struct {
	a       *app
	s       *settings
	o       trainOutput
	start   start
	be      framework.Backend
	model   *model.Model
	train   text
	valid   text
	trainer *train.Trainer
	batches *data.Batches
	config  resolved
	info    runInfo
	lock    *filelock.Lock // of the run's directory
}

// train runs the command.
func (a *app) train(ctx context.Context, s *settings, o trainOutput) (err error) {
	if err := s.load(a); err != nil {
		return err
	}
	j := &job{a: a, s: s, o: o}
	defer func() { err = errors.CombineErrors(err, j.close()) }()
	if err := j.setUp(ctx); err != nil {
		return err
	}
	if err := j.announce(); err != nil {
		return err
	}
	if err := j.run(ctx); err != nil {
		return err
	}
	return j.conclude(ctx)
}

// setUp resolves the settings and readies everything that a step needs.
func (j *job) setUp(ctx context.Context) error {
	var err error
	if j.start, err = j.a.chooseStart(j.s); err != nil {
		return err
	}
	if err := j.s.resolve(j.start.config); err != nil {
		return err
	}
	j.s.Run.Out = j.start.out
	if _, err := os.Stat(j.start.out); err == nil { // else it is made, and locked, by run
		if err := j.lockRun(); err != nil {
			return err
		}
	}
	if j.model, err = model.New(j.s.Model); err != nil {
		return err
	}
	if err := j.requireSame(""); err != nil {
		return err
	}
	if from := j.start.config; from != nil {
		if err := requirePlugins(j.start.dir, from.Plugins, modelPlugins(j.s.Model)); err != nil {
			return err
		}
	}
	if err := j.openData(ctx); err != nil {
		return err
	}
	if err := j.requireSame(j.info.Train.SHA256); err != nil {
		return err
	}
	if j.be, err = j.s.openBackend(j.a); err != nil {
		return err
	}
	if j.trainer, err = train.New(ctx, j.be, j.model, j.s.Recipe); err != nil {
		return err
	}
	if j.batches, err = j.s.Recipe.Batches(j.train.Tokens); err != nil {
		return err
	}
	if j.start.snap == nil {
		return j.trainer.Initialize(ctx)
	}
	err = j.trainer.Restore(ctx, j.batches, j.start.snap)
	j.start.snap = nil // its tensors are in the store now
	return errors.Wrapf(err, "resume %s", j.start.dir)
}

func (j *job) openData(ctx context.Context) error {
	var err error
	if j.train, err = openTrainText(ctx, j.s.Run.Data, j.s.Model.Tokenizer); err != nil {
		return err
	}
	if j.valid, err = openValidText(ctx, j.s.Run.Valid, j.s.Model.Tokenizer); err != nil {
		return err
	}
	if j.info.Train, err = j.train.info(); err != nil {
		return err
	}
	if j.info.Valid, err = j.valid.info(); err != nil {
		return err
	}
	j.config = resolved{Model: j.s.Model, Recipe: j.s.Recipe, Data: j.info.Train.SHA256, Plugins: modelPlugins(j.s.Model)}
	return nil
}

// requireSame compares the run with the checkpoint that it goes on from; data
// is not compared while it is "".
func (j *job) requireSame(data string) error {
	have := j.start.config
	if have == nil {
		return nil
	}
	if data == "" {
		data = have.Data
	}
	return requireSame(j.start.dir, *have, resolved{Model: j.s.Model, Recipe: j.s.Recipe, Data: data})
}

// lockRun makes this process the only one that trains in the run's directory.
func (j *job) lockRun() (err error) {
	if j.lock != nil {
		return nil
	}
	j.lock, err = filelock.Acquire(filepath.Join(j.s.Run.Out, lockFile))
	if errors.Is(err, filelock.ErrHeld) {
		err = errors.Wrapf(err, "another training is at work in %s", j.s.Run.Out)
		return errors.WithHint(err, "wait for it, or choose another directory with --out")
	}
	return err
}

// plan turns the settings into what train.Run takes.
func (j *job) plan(p *progress, stop <-chan struct{}) (train.Plan, error) {
	raw, err := json.Marshal(j.config)
	r, steps := j.s.Run, j.s.Recipe.Steps
	return train.Plan{
		Dir: r.Out, Config: raw, CreatedBy: buildVersion().String(),
		SaveEvery: interval(r.SaveEvery, steps, 4, 1000),
		EvalEvery: interval(r.EvalEvery, steps, 8, 500),
		LogEvery:  interval(r.LogEvery, steps, 400, 50),
		Keep:      r.Keep, EvalLimit: r.EvalWindows, EvalBatch: j.evalBatch(), EvalWindow: j.s.Recipe.Window,
		Stop: stop, Observe: p.event, Valid: j.valid.Tokens,
	}, err
}

// evalBatch is the number of windows that an evaluation takes at once.
func (j *job) evalBatch() int { return min(j.s.Recipe.Batch, 16) }

// run trains to the end or until it is stopped.
func (j *job) run(ctx context.Context) error {
	j.a.graceful.Store(true)
	if ctx.Err() != nil { // interrupted while nothing could be saved yet
		return errors.Wrap(context.Canceled, "before the first step")
	}
	if err := os.MkdirAll(j.s.Run.Out, 0o777); err != nil {
		return errors.Wrap(err, "make the run's directory")
	}
	if err := j.lockRun(); err != nil {
		return err
	}
	if err := j.info.write(j.s.Run.Out); err != nil {
		return err
	}
	p := j.newProgress()
	stop, timedOut, end := j.stopper()
	defer end()
	plan, err := j.plan(p, stop)
	if err != nil {
		return err
	}
	err = train.Run(ctx, j.trainer, j.batches, plan)
	p.done()
	if errors.Is(err, train.ErrStopped) && j.trainer.Done() > 0 {
		err = errors.Wrapf(err, "saved in %s", j.s.Run.Out)
	}
	if errors.Is(err, train.ErrStopped) && timedOut() {
		return errors.Mark(err, errTimeLimit)
	}
	return err
}

func (j *job) newProgress() *progress {
	p := &progress{w: j.a.stderr, every: 10 * time.Second, lr: j.s.Recipe.MatrixLR}
	if j.s.set.Origin("log_every").Layer != config.LayerDefault {
		p.every = 0
	}
	if width, ok := j.a.terminal(); ok && !j.o.plain {
		p.width = width
	}
	if j.o.json {
		p.json = json.NewEncoder(j.a.stdout)
	}
	return p
}

// stopper returns a channel that is closed by a signal or at the time limit.
func (j *job) stopper() (stop <-chan struct{}, timedOut func() bool, end func()) {
	limit := j.s.Run.TimeLimit
	if limit <= 0 {
		return j.a.stop, func() bool { return false }, func() {}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	both := make(chan struct{})
	go func() {
		select {
		case <-j.a.stop:
		case <-ctx.Done():
		}
		close(both)
	}()
	return both, func() bool { return errors.Is(ctx.Err(), context.DeadlineExceeded) && !j.a.interrupted.Load() }, cancel
}

// close gives everything back.
func (j *job) close() error {
	var err error
	if j.trainer != nil {
		err = j.trainer.Close()
	}
	for _, t := range []text{j.train, j.valid} {
		if t.Tokens != nil {
			err = errors.CombineErrors(err, t.Close())
		}
	}
	if j.be != nil {
		err = errors.CombineErrors(err, j.be.Close())
	}
	return errors.CombineErrors(err, j.lock.Release())
}
