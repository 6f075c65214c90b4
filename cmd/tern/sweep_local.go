package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu"
	"github.com/ternlm/tern/internal/memory"
	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/local"
	"github.com/ternlm/tern/train"
)

// processBytes is what a trial's process takes beside what its training is
// estimated to: the program, its tokenizer and texts.
const processBytes = 160 << 20

// runLocal runs a plan's trials on this machine.
func (a *app) runLocal(ctx context.Context, d *sweep.Dir, f runFlags) error {
	a.graceful.Store(true)
	if ctx.Err() != nil {
		return errors.Wrap(context.Canceled, "before the first trial")
	}
	stop, timedOut, end := a.stopAfter(f.timeLimit)
	defer end()
	if _, err := a.trialCommand(d, d.Plan.Trials[0], trialFlags{}); err != nil {
		return err
	}
	jobs, free, err := shareOut(d, f.jobs)
	if err != nil {
		return err
	}
	p := a.newSweepProgress(d)
	s, err := local.Run(context.Background(), d, local.Options{
		Jobs: jobs, Threads: f.threads, Memory: free, Base: processBytes, Retry: f.retry, Stop: stop, Observe: p.event,
		Command: func(t sweep.Trial, threads int) sweep.Command {
			c, _ := a.trialCommand(d, t, trialFlags{threads: threads}) // it went well above
			return c
		},
	})
	p.done()
	if err != nil {
		return err
	}
	a.note("%s", stateCounts(s.States, len(d.Plan.Trials)))
	switch {
	case s.Stopped && timedOut():
		return errors.Mark(errors.Wrap(train.ErrStopped, "run the same command to go on"), errTimeLimit)
	case s.Stopped:
		return errors.Wrap(train.ErrStopped, "run the same command to go on")
	}
	return a.requireDone(d)
}

// shareOut says how many trials may run at once, 0 is one for each processor, and
// how much memory they may take together, 0 is no limit. Trials on a device are no
// sooner done side by side, and each takes a context's memory there: without a
// number they run one by one.
func shareOut(d *sweep.Dir, jobs int) (int, int64, error) {
	spec := ""
	for _, t := range d.Plan.Trials {
		if name, _, _ := strings.Cut(t.Settings["backend"], ":"); name == gpu.Name {
			spec = t.Settings["backend"]
		}
	}
	free, known := memory.Available()
	switch {
	case spec != "" && jobs <= 1:
		return 1, 0, nil
	case spec != "":
		be, err := openBackend(spec, 0)
		if err != nil {
			return 0, 0, err
		}
		free, known, err = memory.Free(be)
		if err = errors.CombineErrors(err, be.Close()); err != nil {
			return 0, 0, err
		}
	}
	if !known {
		return jobs, 0, nil
	}
	return jobs, max(1, free-free/10), nil
}

// stopAfter returns a channel that is closed by a signal or after a time; 0 is
// never.
func (a *app) stopAfter(limit time.Duration) (stop <-chan struct{}, timedOut func() bool, end func()) {
	if limit <= 0 {
		return a.stop, func() bool { return false }, func() {}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	both := make(chan struct{})
	go func() {
		select {
		case <-a.stop:
		case <-ctx.Done():
		}
		close(both)
	}()
	return both, func() bool { return errors.Is(ctx.Err(), context.DeadlineExceeded) && !a.interrupted.Load() }, cancel
}

// maxListed bounds how many trials an error lists.
const maxListed = 20

// requireDone lists the trials of a plan that are not done.
func (a *app) requireDone(d *sweep.Dir) error {
	n, failed := 0, 0
	for _, t := range d.Plan.Trials {
		state, _, failure, err := d.Status(t)
		if err != nil {
			return err
		}
		if state == sweep.Done {
			continue
		}
		if state == sweep.Failed {
			failed++
		}
		if n++; n <= maxListed {
			a.note("%-11s %s", state, trialName(t))
			if failure != nil {
				a.note("            %s", strings.ReplaceAll(failure.Error, "\n", "\n            "))
			}
			a.note("            %s", filepath.Join(d.TrialDir(t.ID), "log"))
		}
	}
	if n == 0 {
		return nil
	}
	err := errors.Wrapf(errTrialsFailed, "%d of %d, %d failed", n, len(d.Plan.Trials), failed)
	return errors.WithHint(err, "after the cause is gone: tern sweep run "+d.Path+" --retry")
}
