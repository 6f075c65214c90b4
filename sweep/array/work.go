package array

import (
	"context"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/filelock"
	"github.com/ternlm/tern/sweep"
)

// kills is how often a trial may be killed in one task, such as for its memory,
// until the task goes on without it.
const kills = 3

// Work is what one task has to do.
type Work struct {
	Dir     *sweep.Dir
	Trials  []sweep.Trial
	Command func(sweep.Trial) sweep.Command // starts a trial; Stop is set here
	Stop    <-chan struct{}                 // when closed, the trial saves and no other begins
	// Retry says whether a trial that failed before is run again; nil is never.
	Retry func(*sweep.Failure) bool
	// Patience is how long a trial that another process holds is waited for, and
	// Pause the time between two looks. The lock of a process whose machine died
	// goes away by itself: at once on a disk of this machine, but on a network
	// file system only when its server notices (90 s with NFS 4).
	Patience, Pause time.Duration
	Note            func(format string, args ...any)
}

// Report is what came of a task.
type Report struct {
	Done        int  // trials that are done, before or now
	Failed      int  // that a repetition would not help
	Misled      int  // of those, the ones that their configuration failed (status 2)
	Interrupted int  // that were stopped, or not begun, and go on
	Killed      int  // that were killed too often, such as for their memory
	Held        int  // that another process kept
	Stopped     bool // Stop was closed before all had ended
}

// Exit is the status that a task's process ends with: 0 when all trials are done,
// 75 when it was stopped and another run takes them further, 2 when nothing but
// configurations stands in the way, and else 1. A trial that is killed each time
// is no case of 75: batch systems start such tasks again without counting.
func (r Report) Exit() int {
	switch {
	case r.Stopped || r.Interrupted > 0 || r.Held > 0:
		return sweep.ExitStopped
	case r.Killed > 0:
		return 1
	case r.Failed == 0:
		return sweep.ExitDone
	case r.Failed == r.Misled:
		return sweep.ExitUsage
	}
	return 1
}

// Run does the work. An error is of the plan's directory or the program; trials
// that fail are counted in the report.
func (w Work) Run(ctx context.Context) (Report, error) {
	var r Report
	left, since := w.Trials, time.Now()
	for {
		var held []sweep.Trial
		for i, t := range left {
			if w.stopped(ctx) {
				r.Stopped = true
				r.Held += len(held)
				r.Interrupted += len(left) - i
				return r, nil
			}
			taken, err := w.trial(ctx, t, &r)
			if err != nil {
				return r, errors.Wrapf(err, "trial %s", t.ID)
			}
			if !taken {
				held = append(held, t)
			}
		}
		if len(held) == 0 {
			return r, nil
		}
		if time.Since(since) > w.Patience {
			r.Held = len(held)
			w.Note("%d trials are still held by other processes, such as %s", len(held), held[0].ID)
			return r, nil
		}
		w.pause(ctx)
		left = held
	}
}

// trial runs one trial, as often as it is killed within reason, and reports
// whether it could be had.
func (w Work) trial(ctx context.Context, t sweep.Trial, r *Report) (taken bool, err error) {
	state, _, failure, err := w.Dir.Status(t)
	if err != nil {
		return false, err
	}
	if state == sweep.Failed && (w.Retry == nil || !w.Retry(failure)) {
		w.count(r, sweep.Outcome{State: state, Failure: failure}, false)
		return true, nil
	}
	for attempt := 1; ; attempt++ {
		c := w.Command(t)
		c.Stop = w.Stop
		out, err := w.Dir.Execute(ctx, t, c)
		if errors.Is(err, filelock.ErrHeld) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		w.Note("trial %s (%s seed %d): %s%s", t.ID, t.Cell, t.Seed, out.State, reason(out))
		stopped := w.stopped(ctx)
		r.Stopped = r.Stopped || stopped && out.State == sweep.Interrupted
		if out.Killed && !stopped && attempt < kills {
			continue
		}
		w.count(r, out, stopped)
		return true, nil
	}
}

// reason is why a trial is not done.
func reason(out sweep.Outcome) string {
	f := out.Failure
	switch {
	case f == nil:
		return ""
	case f.Signal != "":
		return ", by " + f.Signal
	}
	return ": " + complaint(f.Error)
}

// complaint is the line of a log that says what was wrong, or else the last one.
func complaint(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, l := range lines {
		for _, mark := range []string{"error: ", "interrupted: ", "stopped: "} { // of tern's own
			if rest, ok := strings.CutPrefix(l, mark); ok {
				return rest
			}
		}
	}
	return lines[len(lines)-1]
}

// count adds an outcome to the report.
func (w Work) count(r *Report, out sweep.Outcome, stopped bool) {
	switch {
	case out.State == sweep.Done:
		r.Done++
	case out.State == sweep.Failed:
		r.Failed++
		if out.Failure != nil && out.Failure.Exit == sweep.ExitUsage {
			r.Misled++
		}
	case out.Killed && !stopped:
		r.Killed++
	default:
		r.Interrupted++
	}
}

func (w Work) stopped(ctx context.Context) bool {
	select {
	case <-w.Stop:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

func (w Work) pause(ctx context.Context) {
	select {
	case <-w.Stop:
	case <-ctx.Done():
	case <-time.After(w.Pause):
	}
}
