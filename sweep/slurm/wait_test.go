//go:build unix

package slurm

import (
	"context"
	"testing"
	"time"

	"github.com/ternlm/tern/sweep"
)

// follow waits for a plan of two trials, of which the first is done.
func follow(t *testing.T, squeue string, stop chan struct{}) map[sweep.State]int {
	t.Helper()
	fakes(t, map[string]string{"squeue": squeue})
	d := plan(t, "plan", 2)
	finish(t, d, 0)
	looks := 0
	f := Follow{
		Dir: d, ID: "12", Trials: d.Plan.Trials, Stop: stop, Pause: time.Millisecond,
		Observe: func(map[sweep.State]int) {
			if looks++; looks == 3*asks {
				close(stop) // or it would never end
			}
		},
	}
	states, err := f.Wait(context.Background())
	if err != nil || states[sweep.Done] != 1 {
		t.Errorf("%v, %v", states, err)
	}
	return states
}

func TestWaitingEnds(t *testing.T) {
	for _, c := range []struct {
		name, squeue string
		stopped      bool
	}{
		{"when the array is gone", "true", false},
		{"when it is told to, while the array runs", "echo RUNNING", true},
		{"when it is told to, while the controller is away", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			stop := make(chan struct{})
			if states := follow(t, c.squeue, stop); states[sweep.Pending] != 1 {
				t.Errorf("%v", states)
			}
			stopped := false
			select {
			case <-stop:
				stopped = true
			default:
			}
			if stopped != c.stopped {
				t.Errorf("stopped: %v", stopped)
			}
		})
	}
}

// A trial that failed before its submission, which runs it again, has not ended.
func TestTrialsToRunAgainAreWaitedFor(t *testing.T) {
	d := plan(t, "plan", 1)
	trial := d.Plan.Trials[0]
	c := sweep.Command{Path: "/bin/sh", Args: []string{"sh", "-c", "exit 1"}}
	if out, err := d.Execute(context.Background(), trial, c); err != nil || out.State != sweep.Failed {
		t.Fatalf("%+v, %v", out, err)
	}
	for hours, want := range map[time.Duration]sweep.State{1: sweep.Pending, -1: sweep.Failed} {
		f := Follow{Dir: d, Trials: d.Plan.Trials, Submission: Submission{Created: time.Now().Add(hours * time.Hour)}}
		if states, _, err := f.states(); err != nil || states[want] != 1 {
			t.Errorf("submitted %d hours later: %v, %v", hours, states, err)
		}
	}
}
