package main

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/array"
	"github.com/ternlm/tern/sweep/slurm"
)

// indexVariable holds the index of a pod of an Indexed Job of Kubernetes.
const indexVariable = "JOB_COMPLETION_INDEX"

// workFlags say which task of an array a process is.
type workFlags struct {
	submission string
	task       string
	tasks      int
	threads    int
}

func newSweepWorkCmd(a *app) *cobra.Command {
	var f workFlags
	cmd := &cobra.Command{
		Use:   "work DIR",
		Short: "Do the work of one task of an array: its share of the trials, one after another",
		Long: "Runs the trials of one task that are not done, and is what the engines slurm and k8s start on their machines. On SIGTERM\n" +
			"it saves and ends. Exit status: 0 all done, 75 stopped (the same command goes on), 2 wrong configuration, 1 anything else.",
		Args: usageArgs(cobra.ExactArgs(1)), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error { return a.sweepWork(cmd.Context(), args[0], f) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.submission, "submission", "", "of a Slurm array, whose tasks are frozen in the plan's directory")
	fs.StringVar(&f.task, "task", "", "index of the task; without it $"+indexVariable)
	fs.IntVar(&f.tasks, "tasks", 0, "tasks that the plan's trials are dealt out to, without --submission")
	fs.IntVar(&f.threads, "threads", 0, "worker threads, without --submission; 0 is as planned")
	return cmd
}

// sweepWork does the work of a task.
func (a *app) sweepWork(ctx context.Context, dir string, f workFlags) error {
	a.graceful.Store(true)
	if ctx.Err() != nil {
		return errors.Wrap(context.Canceled, "before the first trial")
	}
	d, err := sweep.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		host, _ := os.Hostname() // "" says as much
		return usagef("a plan that others work on must be where all of them see it, by the same path", "machine %s sees no plan in %s", host, dir)
	}
	if err != nil {
		return errors.Mark(err, errUsage)
	}
	if f.task == "" {
		f.task = a.getenv(indexVariable)
	}
	index, err := strconv.Atoi(f.task)
	if err != nil {
		return usagef("give --task N", "task %q is no index", f.task)
	}
	if _, err := a.trialCommand(d, d.Plan.Trials[0], trialFlags{}); err != nil {
		return err
	}
	r, err := a.workOf(ctx, d, index, f)
	if err != nil {
		return err
	}
	return a.finishWork(r)
}

// workOf runs the trials of a task.
func (a *app) workOf(ctx context.Context, d *sweep.Dir, index int, f workFlags) (array.Report, error) {
	command := func(t sweep.Trial, threads int) sweep.Command {
		c, _ := a.trialCommand(d, t, trialFlags{threads: threads}) // it went well before
		return c
	}
	if f.submission != "" {
		s, err := slurm.Load(d, f.submission)
		if err != nil {
			return array.Report{}, slurmUsage(err)
		}
		task := slurm.Task{Dir: d, Submission: s, Index: index, Stop: a.stop, Getenv: a.getenv, Note: a.note, Command: command}
		r, err := task.Run(ctx)
		return r, slurmUsage(err)
	}
	shares := array.Split(d.Plan.Trials, f.tasks)
	if index < 0 || index >= len(shares) {
		return array.Report{}, usagef("give --tasks as the array has it", "there are tasks 0 to %d, not %d", len(shares)-1, index)
	}
	return array.Work{
		Dir: d, Trials: shares[index], Stop: a.stop, Note: a.note, Patience: 5 * time.Minute, Pause: 2 * time.Second,
		Command: func(t sweep.Trial) sweep.Command { return command(t, f.threads) },
		Retry:   func(*sweep.Failure) bool { return true }, // the Job bounds how often a pod starts again
	}.Run(ctx)
}

// finishWork says what came of a task, with the status that tells a batch system
// what to do.
func (a *app) finishWork(r array.Report) error {
	left := r.Interrupted + r.Held
	a.note("%d done, %d failed, %d killed, %d to go on", r.Done, r.Failed, r.Killed, left)
	switch r.Exit() {
	case sweep.ExitDone:
		return nil
	case sweep.ExitStopped:
		return errors.Mark(errors.Newf("%s to go on", plural(left, "trial")), errTimeLimit)
	case sweep.ExitUsage:
		return errors.Mark(errors.Wrapf(errTrialsFailed, "%s with a wrong configuration", plural(r.Misled, "trial")), errUsage)
	}
	return errors.Wrapf(errTrialsFailed, "%d failed, %d killed", r.Failed, r.Killed)
}
