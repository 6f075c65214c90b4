package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/train"
)

// engineLocal runs trials on this machine.
const engineLocal = "local"

// engines are where trials may run.
var engines = map[string]func(a *app, ctx context.Context, d *sweep.Dir, f runFlags) error{
	engineLocal: (*app).runLocal,
}

// errTrialsFailed is returned by a run of which not all trials are done.
var errTrialsFailed = errors.New("not all trials are done")

// runFlags say how a plan runs.
type runFlags struct {
	engine      string
	jobs        int
	threads     int
	retry       bool
	dryRun      bool
	determinism bool
	timeLimit   time.Duration

	array arrayFlags // of the engines slurm and k8s
	slurm slurmFlags
	k8s   kubernetesFlags
}

func (f *runFlags) add(fs *pflag.FlagSet) {
	fs.IntVar(&f.jobs, "jobs", 0, "most trials at once; 0 is one for each processor, or as many as the memory carries, and 1 on a GPU")
	fs.IntVar(&f.threads, "threads", 0, "worker threads of each trial; 0 shares the processors out. Results do not depend on it")
	fs.BoolVar(&f.retry, "retry", false, "run failed trials again")
	fs.BoolVar(&f.dryRun, "dry-run", false, "only say what would be done")
	fs.BoolVar(&f.determinism, "check-determinism", false, "train the first trial twice before, for at most 20 steps, with different threads, and compare every bit")
	fs.DurationVar(&f.timeLimit, "time-limit", 0, "save and stop with status 75 after this time, such as 3h50m; 0 is no limit")
}

func newSweepRunCmd(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run DIR",
		Short: "Run the trials of a plan that are not done",
		Long: "Runs the trials of a plan that are not done: those that were interrupted go on from their last checkpoint, failed ones\n" +
			"are left unless --retry is given. A trial that fails stops no other. Exit status: 0 all done, 1 some failed, 75 time limit,\n" +
			"130 interrupted; after the last two the same command goes on.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := requireEngine(cmd.Flags(), f.engine); err != nil {
				return err
			}
			return a.sweepRun(cmd.Context(), args[0], f)
		},
	}
	names := slices.Sorted(maps.Keys(engines))
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&f.engine, "engine", engineLocal, "where trials run: "+strings.Join(names, ", "))
	f.add(cmd.Flags())
	f.array.add(cmd.Flags())
	f.slurm.add(cmd.Flags())
	f.k8s.add(cmd.Flags())
	return cmd
}

// sweepRun runs the plan in dir.
func (a *app) sweepRun(ctx context.Context, dir string, f runFlags) (err error) {
	engine := engines[f.engine]
	if engine == nil {
		return usagef(framework.Suggest(f.engine, slices.Sorted(maps.Keys(engines))), "--engine %s", f.engine)
	}
	if f.jobs < 0 || f.threads < 0 {
		return usagef("0 chooses", "--jobs %d --threads %d", f.jobs, f.threads)
	}
	d, err := sweep.Open(dir)
	if err != nil {
		return err
	}
	if f.dryRun && f.engine == engineLocal {
		return a.printPending(d, f)
	}
	if f.dryRun || f.engine == engineKubernetes { // nothing is written
		return engine(a, ctx, d, f)
	}
	lock, err := d.Lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, lock.Release()) }()
	if f.determinism {
		if err := a.checkDeterminism(ctx, d); err != nil {
			return err
		}
	}
	return engine(a, ctx, d, f)
}

// printPending says what a run would do.
func (a *app) printPending(d *sweep.Dir, f runFlags) error {
	for _, t := range d.Plan.Trials {
		state, _, _, err := d.Status(t)
		if err != nil {
			return err
		}
		what := "run"
		switch {
		case state == sweep.Done || state == sweep.Failed && !f.retry:
			continue
		case state == sweep.Failed:
			what = "retry"
		case state == sweep.Interrupted:
			what = "go on"
		case state == sweep.Running:
			what = "wait"
		}
		a.printf("%-6s %s %s seed %d\n", what, t.ID, t.Cell, t.Seed)
	}
	return nil
}

// trialCommand is how this program trains a trial in a process of its own.
func (a *app) trialCommand(d *sweep.Dir, t sweep.Trial, f trialFlags) (sweep.Command, error) {
	path, err := os.Executable()
	if err != nil {
		return sweep.Command{}, errors.Wrap(err, "find this program")
	}
	name := os.Args[0]
	if strings.HasSuffix(filepath.Base(name), ".test") || strings.HasSuffix(filepath.Base(name), ".test.exe") {
		return sweep.Command{}, errors.AssertionFailedf("a test's program cannot train trials")
	}
	dir, err := filepath.Abs(d.Path)
	if err != nil {
		return sweep.Command{}, err
	}
	args := []string{name, "sweep", "trial", dir, t.ID, "--executed"}
	if f.threads > 0 {
		args = append(args, "--threads", strconv.Itoa(f.threads))
	}
	if f.timeLimit > 0 {
		args = append(args, "--time-limit", f.timeLimit.String())
	}
	return sweep.Command{Path: path, Args: append(args, a.plugins.flags()...)}, nil
}

// flags are those that the plugins of a process that is started need.
func (h *pluginHost) flags() (words []string) {
	for flag, values := range map[string][]string{
		"--plugin":     slices.Concat(h.given, h.outer.given),
		"--plugin-dev": slices.Concat(h.dev, h.outer.dev),
	} {
		for _, v := range values {
			words = append(words, flag, v)
		}
	}
	if h.accept {
		words = append(words, "--accept-plugin")
	}
	return words
}

func newSweepExecCmd(a *app) *cobra.Command {
	var f trialFlags
	cmd := &cobra.Command{
		Use:   "exec DIR ID",
		Short: "Run tern sweep trial in a process of its own, and note how it ends",
		Args:  usageArgs(cobra.ExactArgs(2)), Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error { return a.sweepExec(args[0], args[1], f) },
	}
	cmd.Flags().IntVar(&f.threads, "threads", 0, "worker threads; 0 is as planned")
	cmd.Flags().DurationVar(&f.timeLimit, "time-limit", 0, "save and stop with status 75 after this time; 0 is no limit")
	return cmd
}

// sweepExec runs one trial; it ends as the trial does.
func (a *app) sweepExec(dir, id string, f trialFlags) error {
	d, err := sweep.Open(dir)
	if err != nil {
		return err
	}
	t, err := d.Trial(id)
	if err != nil {
		return err
	}
	c, err := a.trialCommand(d, t, f)
	if err != nil {
		return err
	}
	a.graceful.Store(true)
	c.Stop = a.stop
	o, err := d.Execute(context.Background(), t, c)
	if err != nil {
		return err
	}
	switch {
	case o.State == sweep.Done:
		return nil
	case o.State == sweep.Interrupted && o.Failure.Exit == exitStopped:
		return errors.Mark(errors.Wrapf(train.ErrStopped, "trial %s", id), errTimeLimit)
	case o.State == sweep.Interrupted && a.interrupted.Load():
		return errors.Wrapf(train.ErrStopped, "trial %s", id)
	}
	err = errors.Wrapf(errTrialsFailed, "trial %s %s:\n%s", id, o.State, o.Failure.Error)
	return errors.WithHint(err, "the whole log is "+filepath.Join(d.TrialDir(id), "log"))
}

// trialName names a trial for people.
func trialName(t sweep.Trial) string { return fmt.Sprintf("%s seed %d (%s)", t.Cell, t.Seed, t.ID) }
