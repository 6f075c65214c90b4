package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/slurm"
)

// engineSlurm runs trials as a job array.
const engineSlurm = "slurm"

func init() { engines[engineSlurm] = (*app).runSlurm }

// arrayFlags say how the trials of a plan become tasks of an array; they are
// those of the engines slurm and k8s.
type arrayFlags struct {
	cpus       int
	memory     string
	perTask    int
	maxRunning int
	program    string
}

func (f *arrayFlags) add(fs *pflag.FlagSet) {
	fs.IntVar(&f.cpus, "cpus-per-task", 1, "slurm, k8s: processors of a task, and so threads of its trials")
	fs.StringVar(&f.memory, "memory", "auto", "slurm, k8s: memory of a task, such as 2G (k8s: 2Gi); auto is the plan's estimate, none does not say")
	fs.IntVar(&f.perTask, "trials-per-task", 0, "slurm, k8s: trials that a task runs, one after another; 0 chooses by how long they take")
	fs.IntVar(&f.maxRunning, "max-running", 0, "slurm, k8s: most tasks at once; 0 is no limit")
	fs.StringVar(&f.program, "program", "", "slurm, k8s: tern on the nodes or in the image; without it this program, or tern")
	ownFlags(fs, []string{engineSlurm, engineKubernetes}, "cpus-per-task", "memory", "trials-per-task", "max-running", "program")
}

// enginesOf is the annotation of flags that belong to some engines alone.
const enginesOf = "tern_engines"

func ownFlags(fs *pflag.FlagSet, engines []string, names ...string) {
	for _, name := range names {
		if err := fs.SetAnnotation(name, enginesOf, engines); err != nil {
			panic(errors.AssertionFailedf("flag: %v", err))
		}
	}
}

// requireEngine refuses flags of other engines, which would be without effect.
func requireEngine(fs *pflag.FlagSet, engine string) (err error) {
	fs.Visit(func(f *pflag.Flag) {
		if own := f.Annotations[enginesOf]; len(own) > 0 && !slices.Contains(own, engine) {
			err = usagef("leave it out, or add --engine "+own[0], "--%s means nothing to --engine %s", f.Name, engine)
		}
	})
	return err
}

// slurmFlags are those of --engine slurm alone.
type slurmFlags struct {
	partition string
	time      time.Duration
	args      []string
	wait      bool
}

func (f *slurmFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.partition, "partition", "", "slurm: partition; without it the cluster's default")
	fs.DurationVar(&f.time, "time", 0, "slurm: limit of a task, such as 1h; when it is reached the task saves and is requeued. 0 is the partition's")
	fs.StringArrayVar(&f.args, "sbatch-arg", nil, "slurm: further argument of sbatch, such as --sbatch-arg=--account=lab (repeat for more)")
	fs.BoolVar(&f.wait, "wait", false, "slurm: stay until the trials have ended, and end as --engine local does")
	ownFlags(fs, []string{engineSlurm}, "partition", "time", "sbatch-arg", "wait")
}

// runSlurm submits a plan's trials.
func (a *app) runSlurm(ctx context.Context, d *sweep.Dir, f runFlags) error {
	if f.jobs != 0 || f.threads != 0 || f.timeLimit != 0 {
		return usagef("use --max-running, --cpus-per-task and --time", "--engine slurm has no --jobs, --threads and --time-limit")
	}
	d, o, err := a.slurmOptions(d, f)
	if err != nil {
		return err
	}
	p, err := slurm.Prepare(ctx, d, o, time.Now())
	if errors.Is(err, slurm.ErrNone) {
		a.note("%v", err)
		return a.requireDone(d)
	}
	if err != nil {
		return slurmUsage(err)
	}
	if f.dryRun {
		a.printSubmission(p)
		return nil
	}
	id, err := slurm.Submit(ctx, d, o, &p)
	if err != nil {
		return slurmUsage(err)
	}
	a.note("submitted job %s: %s in %s; logs and tasks in %s", id, plural(len(p.Trials), "trial"),
		plural(len(p.Submission.Tasks), "task"), filepath.Dir(p.Args[len(p.Args)-1]))
	if !f.slurm.wait {
		a.note("\nNext:\n  %s sweep watch %s\n  scancel %s    to end it; the same command then goes on", self(), sweep.ShellWord(d.Path), id)
		a.printf("%s\n", id)
		return nil
	}
	return a.waitForSlurm(ctx, slurm.Follow{Dir: d, ID: id, Submission: p.Submission, Trials: p.Trials})
}

// slurmOptions are the options of a submission, and the plan's directory by its
// whole path.
func (a *app) slurmOptions(d *sweep.Dir, f runFlags) (*sweep.Dir, slurm.Options, error) {
	o := slurm.Options{
		Partition: f.slurm.partition, Time: f.slurm.time, Args: f.slurm.args, Retry: f.retry, Program: f.array.program,
		CPUs: f.array.cpus, Memory: f.array.memory, PerTask: f.array.perTask, MaxRunning: f.array.maxRunning,
		Flags: a.plugins.flags(),
	}
	var err error
	if o.Program == "" {
		if o.Program, err = os.Executable(); err != nil {
			return d, o, errors.Wrap(err, "find this program")
		}
		if strings.Contains(o.Program, "go-build") {
			return d, o, usagef("go build ./cmd/tern, and run that; or name it with --program", "go run removes this program when it ends, and nodes need it")
		}
	}
	path, err := filepath.Abs(d.Path)
	if err != nil {
		return d, o, errors.Wrap(err, "directory of the plan")
	}
	whole := *d
	whole.Path = path
	return &whole, o, nil
}

// slurmUsage makes what better arguments would have avoided a usage error.
func slurmUsage(err error) error {
	if errors.IsAny(err, slurm.ErrOption, slurm.ErrMissing, slurm.ErrSubmission) {
		return errors.Mark(err, errUsage)
	}
	return err
}

// printSubmission shows what would be submitted.
func (a *app) printSubmission(p slurm.Prepared) {
	words := []string{"sbatch"}
	for _, w := range p.Args {
		words = append(words, sweep.ShellWord(w))
	}
	a.note("%s in %s, with", plural(len(p.Trials), "trial"), plural(len(p.Submission.Tasks), "task"))
	a.note("%s\n", strings.Join(words, " "))
	a.printf("%s", p.Script)
}

// waitForSlurm shows how an array comes along, until it ends.
func (a *app) waitForSlurm(ctx context.Context, w slurm.Follow) error {
	a.graceful.Store(true)
	width, _ := a.terminal()
	last := ""
	w.Stop = a.stop
	w.Observe = func(states map[sweep.State]int) {
		line := stateCounts(states, len(w.Trials))
		switch {
		case width > 0:
			fmt.Fprintf(a.stderr, "\r%.*s\x1b[K", width-1, line)
		case line != last:
			a.note("%s", line)
		}
		last = line
	}
	states, err := w.Wait(ctx)
	if width > 0 {
		fmt.Fprintln(a.stderr)
	}
	if err != nil {
		return err
	}
	left := len(w.Trials) - states[sweep.Done] - states[sweep.Failed]
	switch {
	case left > 0 && a.interrupted.Load():
		return errors.Wrapf(context.Canceled, "the array goes on; scancel %s ends it", w.ID)
	case left > 0:
		a.note("job %s has ended, and %s not: the same command goes on", w.ID, plural(left, "trial"))
	}
	return a.requireDone(w.Dir)
}
