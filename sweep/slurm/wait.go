package slurm

import (
	"context"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
)

// Follow waits for the trials of a submission.
type Follow struct {
	Dir        *sweep.Dir
	ID         string // of the job
	Submission Submission
	Trials     []sweep.Trial
	Stop       <-chan struct{}           // ends the waiting, and not the array
	Observe    func(map[sweep.State]int) // trials by state, now and then
	Pause      time.Duration             // between looks at the files; 0 is 2 s
}

// asks is how many looks at the files go by for one question to Slurm.
const asks = 10

// Wait returns when every trial is done or failed, when the array is gone from
// the queue, or when Stop is closed, with the trials by state.
func (f Follow) Wait(ctx context.Context) (map[sweep.State]int, error) {
	if f.Pause == 0 {
		f.Pause = 2 * time.Second
	}
	gone := false
	for look := 1; ; look++ {
		states, open, err := f.states()
		if err != nil {
			return states, err
		}
		f.Observe(states)
		if open == 0 || gone {
			return states, nil
		}
		select {
		case <-f.Stop:
			return states, nil
		case <-ctx.Done():
			return states, ctx.Err()
		case <-time.After(f.Pause):
		}
		if look%asks == 0 {
			there, err := queued(ctx, f.ID, f.Submission.Job)
			if errors.Is(err, ErrRefused) {
				continue // the controller may be away for a while; the files are not
			}
			if err != nil {
				return states, err
			}
			gone = !there
		}
	}
}

// states counts the trials by state, and those that may still change.
func (f Follow) states() (map[sweep.State]int, int, error) {
	states, open := map[sweep.State]int{}, 0
	for _, t := range f.Trials {
		state, _, failure, err := f.Dir.Status(t)
		if err != nil {
			return states, open, errors.Wrapf(err, "trial %s", t.ID)
		}
		if failure != nil && state == sweep.Failed && failure.Time.Before(f.Submission.Created) {
			state = sweep.Pending // to be run again
		}
		states[state]++
		if state != sweep.Done && state != sweep.Failed {
			open++
		}
	}
	return states, open, nil
}
