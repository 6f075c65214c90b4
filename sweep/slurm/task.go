package slurm

import (
	"context"
	"strconv"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/array"
)

// Task is one task of an array, on the node that it runs on.
type Task struct {
	Dir        *sweep.Dir
	Submission Submission
	Index      int
	// Command returns how to train a trial; its Stop is set here.
	Command func(t sweep.Trial, threads int) sweep.Command
	Stop    <-chan struct{} // closed by SIGTERM
	Getenv  func(string) string
	Note    func(format string, args ...any)
}

// Locks of machines that died are waited for so long, see array.Work.
const (
	patience = 5 * time.Minute
	pause    = 2 * time.Second
)

// vain is the number of restarts after which a task that gets nowhere is not
// started again.
const vain = 10

// Run runs the trials of the task. When it is stopped it hands itself back to
// Slurm, where that does not do so by itself, and goes on from its checkpoints
// when it runs again.
func (t Task) Run(ctx context.Context) (array.Report, error) {
	trials, err := t.Submission.Trials(t.Dir, t.Index)
	if err != nil {
		return array.Report{}, err
	}
	before := t.steps(trials)
	w := array.Work{
		Dir: t.Dir, Trials: trials, Stop: t.Stop, Patience: patience, Pause: pause, Note: t.Note,
		Command: func(trial sweep.Trial) sweep.Command { return t.Command(trial, t.Submission.CPUs) },
	}
	if t.Submission.Retry { // once: not again when the task is started again
		w.Retry = func(f *sweep.Failure) bool { return f != nil && f.Time.Before(t.Submission.Created) }
	}
	r, err := w.Run(ctx)
	if err == nil && r.Stopped {
		t.requeue(ctx, t.steps(trials) > before)
	}
	return r, err
}

// steps is how far all trials of the task have come.
func (t Task) steps(trials []sweep.Trial) (sum int) {
	for _, trial := range trials {
		sum += t.Dir.Progress(trial).Step
	}
	return sum
}

// requeue puts the task back into the queue, if that is this program's part.
//
// A task is told to end (SIGTERM) in three ways. Before its limit of time
// (--signal), and before it is preempted where the cluster gives a time of grace
// and sends the user's signal, Slurm shows it RUNNING: if it just ended now, Slurm
// would take it for finished, and even preemption would not requeue it. When it
// is preempted at once, or cancelled, it is COMPLETING: then Slurm knows whether
// to requeue it, and to do so here would bring back what scancel ended.
func (t Task) requeue(ctx context.Context, moved bool) {
	task, err := t.name()
	if err != nil {
		t.Note("not requeued: %v", err)
		return
	}
	if n, _ := strconv.Atoi(t.Getenv("SLURM_RESTART_COUNT")); n >= vain && !moved {
		t.Note("not requeued: %s was started %d times, and this time came not one step further; give it a longer --time", task, n+1)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, warning/2)
	defer cancel()
	state, err := jobState(ctx, task)
	switch {
	case err != nil:
		t.Note("not requeued: %v", err)
		return
	case state != "RUNNING":
		t.Note("Slurm ends %s itself (%s)", task, state)
		return
	}
	if _, err := command(ctx, "scontrol", "requeue", task); err != nil {
		t.Note("not requeued: %v", err)
		return
	}
	t.Note("requeued %s", task)
}

// name is what Slurm calls this task: the number of the array, and the index.
// SLURM_JOB_ID would not do: for one of the tasks it is the array's own number, by
// which scontrol acts on all of them.
func (t Task) name() (string, error) {
	id, index := t.Getenv("SLURM_ARRAY_JOB_ID"), t.Getenv("SLURM_ARRAY_TASK_ID")
	if _, err := strconv.ParseUint(id, 10, 64); err != nil {
		return "", errors.Newf("this is no task of Slurm (SLURM_ARRAY_JOB_ID is %.40q)", id)
	}
	if index != strconv.Itoa(t.Index) {
		return "", errors.Newf("SLURM_ARRAY_TASK_ID is %.40q, and this does the work of task %d", index, t.Index)
	}
	return id + "_" + index, nil
}
