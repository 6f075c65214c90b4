package slurm

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/atomicfile"
	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/array"
)

// Errors of a submission.
var (
	ErrOption = errors.New("bad option")
	ErrQueued = errors.New("queued already")
	ErrNone   = errors.New("nothing to submit")
)

// Options are what a submission asks of Slurm.
type Options struct {
	Partition  string
	Time       time.Duration // limit of a task; 0 is the partition's
	CPUs       int           // of a task; 0 is 1
	Memory     string        // of a task, as sbatch --mem takes it; auto is the estimate, none asks for none
	PerTask    int           // trials of a task; 0 chooses
	MaxRunning int           // tasks at once; 0 is no limit
	Args       []string      // further ones of sbatch, which override those above
	Retry      bool          // trials that failed too
	Program    string        // tern, by its path on the nodes
	Flags      []string      // further ones of tern sweep work, such as --plugin
}

// check reports the first option that cannot be.
func (o Options) check() error {
	switch {
	case o.Time != 0 && o.Time < shortest:
		err := errors.Wrapf(ErrOption, "--time %v", o.Time)
		return errors.WithHintf(err, "give at least %v: Slurm tells a task to save 1 to 2 minutes before its end", shortest)
	case o.CPUs < 0 || o.PerTask < 0 || o.MaxRunning < 0:
		return errors.Wrapf(ErrOption, "%d processors, %d trials of a task, %d tasks at once", o.CPUs, o.PerTask, o.MaxRunning)
	case slices.ContainsFunc(o.Args, func(a string) bool { return !strings.HasPrefix(a, "-") }):
		err := errors.Wrapf(ErrOption, "%q among the arguments of sbatch", o.Args)
		return errors.WithHint(err, "write an option and its value as one: --sbatch-arg=--account=lab")
	case !filepath.IsAbs(o.Program):
		return errors.Wrapf(ErrOption, "program %q: nodes need its whole path", o.Program)
	}
	return nil
}

// Prepared is a submission that nothing was written of.
type Prepared struct {
	Submission Submission
	Script     string
	Args       []string // of sbatch
	Trials     []sweep.Trial
}

// Prepare chooses the trials that are not done and deals them out to tasks.
// ErrNone where all are done. d.Path must be absolute, as the nodes see it.
func Prepare(ctx context.Context, d *sweep.Dir, o Options, now time.Time) (p Prepared, err error) {
	if err := errors.CombineErrors(o.check(), checkPath(d.Path)); err != nil {
		return p, err
	}
	o.CPUs = max(1, o.CPUs)
	if p.Trials, err = unfinished(d, o.Retry); err != nil {
		return p, err
	}
	if len(p.Trials) == 0 {
		err := errors.Wrapf(ErrNone, "%s: every trial is done or failed", d.Path)
		return p, errors.WithHint(err, "--retry runs those that failed again")
	}
	most, err := maxTasks(ctx)
	if err != nil {
		return p, err
	}
	tasks, err := o.tasks(p.Trials, most)
	if err != nil {
		return p, err
	}
	p.Submission = Submission{
		Version: version, Name: now.UTC().Format("20060102-150405"), Created: now.UTC(), CPUs: o.CPUs,
		Memory: array.Memory(p.Trials), Retry: o.Retry,
	}
	for _, share := range array.Split(p.Trials, tasks) {
		var ids []string
		for _, t := range share {
			ids = append(ids, t.ID)
		}
		p.Submission.Tasks = append(p.Submission.Tasks, ids)
	}
	p.Submission.Job = jobName(d.Plan.Name, p.Submission.Name)
	p.Script = script(o, d.Path, p.Submission.Name)
	p.Args = arguments(o, p.Submission, filepath.Join(d.Path, root, p.Submission.Name))
	return p, nil
}

// tasks is the number of tasks: at most as many as the cluster takes in an array,
// so that there may be more trials of a task than was asked for or chosen.
func (o Options) tasks(trials []sweep.Trial, most int) (int, error) {
	n, per := len(trials), o.PerTask
	if per == 0 {
		per = array.PerTask(trials, o.CPUs)
		per = max(per, (n+most-1)/most)
	}
	tasks := (n + per - 1) / per
	if tasks > most {
		err := errors.Wrapf(ErrOption, "%d trials, %d a task, are %d tasks, and the cluster takes %d (MaxArraySize)", n, per, tasks, most)
		return 0, errors.WithHintf(err, "give --trials-per-task %d or more, or leave it out", (n+most-1)/most)
	}
	return tasks, nil
}

// unfinished are the trials that have work to do, in the order of the plan.
func unfinished(d *sweep.Dir, retry bool) (trials []sweep.Trial, err error) {
	for _, t := range d.Plan.Trials {
		state, _, _, err := d.Status(t)
		if err != nil {
			return nil, errors.Wrapf(err, "trial %s", t.ID)
		}
		if state == sweep.Done || state == sweep.Failed && !retry {
			continue
		}
		trials = append(trials, t)
	}
	return trials, nil
}

// Submit writes a submission down and hands it to sbatch. It returns the number
// of the job. The caller holds the plan's lock. ErrQueued while an array of the
// plan is in the queue.
func Submit(ctx context.Context, d *sweep.Dir, o Options, p *Prepared) (id string, err error) {
	if err := refuseQueued(ctx, d); err != nil {
		return "", err
	}
	path, err := create(d, o, &p.Submission)
	if err != nil {
		return "", err
	}
	p.Args = arguments(o, p.Submission, path)
	if id, err = submit(ctx, p.Args); err != nil {
		if errors.IsAny(err, ErrRefused, ErrMissing) { // no array knows it
			err = errors.CombineErrors(err, os.RemoveAll(path))
		}
		return "", err
	}
	return id, atomicfile.WriteBytes(filepath.Join(path, jobFile), []byte(id+"\n"))
}

// refuseQueued reports an array of the plan that waits or runs: its trials would
// only be waited for.
func refuseQueued(ctx context.Context, d *sweep.Dir) error {
	names, err := list(d)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, err := job(d, name)
		if err != nil {
			return err
		}
		there, err := queued(ctx, id, jobName(d.Plan.Name, name))
		if err != nil {
			return errors.Wrapf(err, "ask whether submission %s is queued", name)
		}
		if there {
			err := errors.Wrapf(ErrQueued, "%s: job %s (submission %s)", d.Path, id, name)
			return errors.WithHintf(err, "watch it with tern sweep watch %s, or end it with scancel %s", d.Path, id)
		}
	}
	return nil
}
