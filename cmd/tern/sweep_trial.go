package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/internal/filelock"
	"github.com/ternlm/tern/sweep"
)

// trialFlags are those of the process that trains a trial.
type trialFlags struct {
	threads   int
	timeLimit time.Duration
	executed  bool // by sweep.Execute, which notes attempts and holds standard input open
}

func newSweepTrialCmd(a *app) *cobra.Command {
	var f trialFlags
	cmd := &cobra.Command{
		Use:   "trial DIR ID",
		Short: "Train one trial of a plan, or go on with it",
		Long: "Trains one trial with its frozen settings, from its last checkpoint if there is one, evaluates and exports it, and writes\n" +
			"its result. It ends as tern train does: 0 done, 2 wrong configuration, 75 time limit, 130 interrupted, 1 anything else.",
		Args: usageArgs(cobra.ExactArgs(2)), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error { return a.sweepTrial(cmd.Context(), args[0], args[1], f) },
	}
	cmd.Flags().IntVar(&f.threads, "threads", 0, "worker threads; 0 is as planned")
	cmd.Flags().DurationVar(&f.timeLimit, "time-limit", 0, "save and stop with status 75 after this time; 0 is no limit")
	cmd.Flags().BoolVar(&f.executed, "executed", false, "end with standard input")
	_ = cmd.Flags().MarkHidden("executed")
	return cmd
}

// endWithInput has the end of standard input mean an interrupt: the process that
// holds it open is gone.
func endWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Signal(syscall.SIGTERM)
	}
	if err != nil { // where there are no signals
		os.Exit(exitInterrupted)
	}
}

// sweepTrial trains a trial of the plan in dir.
func (a *app) sweepTrial(ctx context.Context, dir, id string, f trialFlags) (err error) {
	if f.executed {
		go endWithInput()
	}
	began := time.Now()
	d, err := sweep.Open(dir)
	if err != nil {
		return err
	}
	t, err := d.Trial(id)
	if err != nil {
		return err
	}
	lock, err := d.LockTrial(id)
	if f.executed && errors.Is(err, filelock.ErrHeld) { // no fault of the trial: another process got it first
		return errors.Mark(err, errTimeLimit)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, lock.Release()) }()
	if state, _, _, err := d.Status(t); err != nil || state == sweep.Done {
		return err
	}
	if !f.executed {
		if _, err := d.Begin(id); err != nil {
			return err
		}
	}
	r, err := a.trainTrial(ctx, d, t, lock, f)
	if err != nil {
		// What it took counts, if there is room to say so.
		return errors.CombineErrors(err, d.NotePeak(id, statusBytes("VmHWM:")))
	}
	attempts, err := d.Attempts(id)
	if err != nil {
		return err
	}
	r.Attempts, r.Seconds = attempts.Count, attempts.Seconds+time.Since(began).Seconds()
	r.PeakMemory = max(attempts.Peak, statusBytes("VmHWM:"))
	return d.WriteResult(r)
}

// trainTrial trains, evaluates and exports.
func (a *app) trainTrial(ctx context.Context, d *sweep.Dir, t sweep.Trial, lock *filelock.Lock, f trialFlags) (r sweep.Result, err error) {
	s, err := frozenSettings(t, d.TrialDir(t.ID), f)
	if err != nil {
		return r, err
	}
	j := &job{a: a, s: s, o: trainOutput{plain: true}, lock: lock}
	defer func() { err = errors.CombineErrors(err, j.close()) }()
	if err := j.trainFrozen(ctx, t); err != nil {
		return r, err
	}
	ctx, end := a.untilStopped(ctx)
	defer end()
	done, _, err := j.deliver(ctx)
	if err != nil {
		return r, err
	}
	if err := j.record(&done); err != nil {
		return r, err
	}
	return j.result(t, done)
}

// trainFrozen trains to the end what is planned, and nothing else.
func (j *job) trainFrozen(ctx context.Context, t sweep.Trial) error {
	if err := j.setUp(ctx); err != nil {
		return err
	}
	if err := j.requireFrozen(t); err != nil {
		return err
	}
	if err := j.announce(); err != nil {
		return err
	}
	return j.run(ctx)
}

// frozenSettings are those of a trial, and nothing from variables or files.
func frozenSettings(t sweep.Trial, out string, f trialFlags) (*settings, error) {
	s := newSettings()
	if err := s.give(t.Settings); err != nil {
		return nil, err
	}
	own := map[string]string{"out": out, "resume": "auto", "time_limit": f.timeLimit.String()}
	if f.threads > 0 {
		own["threads"] = strconv.Itoa(f.threads)
	}
	if err := s.give(own); err != nil {
		return nil, err
	}
	return s, s.set.Load("", nil)
}

// requireFrozen compares what the job came to with the plan: data and plugins
// may have changed since, and so may the program.
func (j *job) requireFrozen(t sweep.Trial) error {
	var want trialConfig
	if err := json.Unmarshal(t.Config, &want); err != nil {
		return errors.Wrap(sweep.ErrPlan, err.Error())
	}
	have := trialConfig{
		resolved: j.config, Valid: j.info.Valid.SHA256, FinalWindows: j.s.Run.FinalWindows,
		Backend: j.s.Run.Backend, BackendPlugin: hosts.Load().records(j.s.Run.Backend),
	}
	for _, p := range [][2][]pluginRecord{{want.Plugins, have.Plugins}, {want.BackendPlugin, have.BackendPlugin}} {
		if err := requirePlugins("the plan", p[0], p[1]); err != nil {
			return errors.Mark(err, sweep.ErrPlan)
		}
	}
	have.Plugins, have.BackendPlugin, want.Plugins, want.BackendPlugin = nil, nil, nil, nil
	diff := slices.Concat(differences(want.Model, have.Model), differences(want.Recipe, have.Recipe))
	want.resolved.Model, want.resolved.Recipe = have.Model, have.Recipe
	diff = append(diff, differences(want, have)...)
	if len(diff) == 0 {
		return nil
	}
	err := errors.Wrapf(sweep.ErrPlan, "the trial would not compute what is planned: %s", joined(diff))
	return errors.WithHint(err, "put back what was planned with, or plan again in another directory")
}
