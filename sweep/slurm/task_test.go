//go:build unix

package slurm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ternlm/tern/sweep"
)

// runStopped runs a task of one trial, which is stopped once it is on its way,
// and returns what scontrol was asked and what was noted.
func runStopped(t *testing.T, scontrol string, env map[string]string) (calls, notes string) {
	t.Helper()
	asked := fakes(t, map[string]string{"scontrol": scontrol})
	d := plan(t, "plan", 1)
	trial := d.Plan.Trials[0]
	begun := filepath.Join(d.TrialDir(trial.ID), "begun")
	stop := make(chan struct{})
	go func() {
		for {
			if _, err := os.Stat(begun); err == nil {
				close(stop)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	var b strings.Builder
	task := Task{
		Dir: d, Submission: Submission{Version: version, CPUs: 3, Tasks: [][]string{{trial.ID}}}, Stop: stop,
		Getenv: func(name string) string { return env[name] },
		Note: func(format string, args ...any) {
			t.Logf(format, args...)
			b.WriteString(format + "\n")
		},
		Command: func(_ sweep.Trial, threads int) sweep.Command {
			if threads != 3 {
				t.Errorf("%d threads", threads)
			}
			return sweep.Command{Path: "/bin/sh", Args: []string{"sh", "-c", `trap 'exit 130' TERM; echo >"$1"; while :; do sleep 0.02; done`, "trial", begun}}
		},
	}
	r, err := task.Run(context.Background())
	if err != nil || !r.Stopped || r.Exit() != sweep.ExitStopped {
		t.Errorf("%+v, %v", r, err)
	}
	return asked(), b.String()
}

func TestATaskThatIsStoppedRequeuesItself(t *testing.T) {
	// As Slurm 22.05 prints it.
	const show = `test "$1" = show && echo "JobId=13 ArrayJobId=12 ArrayTaskId=0 JobName=tern UserId=root(0) JobState=STATE Reason=None RunTime=00:00:40 TimeLimit=00:01:00"; true`
	task := map[string]string{"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "13"}
	with := func(name, value string) map[string]string {
		env := map[string]string{name: value}
		for k, v := range task {
			if k != name {
				env[k] = v
			}
		}
		return env
	}
	for _, c := range []struct {
		name, state string
		env         map[string]string
		requeued    bool
	}{
		{"before its limit of time", "RUNNING", task, true},
		{"not when it is cancelled or preempted", "COMPLETING", task, false},
		{"not when nobody told which task it is", "RUNNING", nil, false},
		{"not when it is another task", "RUNNING", with("SLURM_ARRAY_TASK_ID", "1"), false},
		{"not when it gets nowhere", "RUNNING", with("SLURM_RESTART_COUNT", "10"), false},
		{"when it was started again a few times", "RUNNING", with("SLURM_RESTART_COUNT", "9"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls, notes := runStopped(t, strings.ReplaceAll(show, "STATE", c.state), c.env)
			if got := strings.Contains(calls, "scontrol <requeue> <12_0>\n"); got != c.requeued || strings.Count(calls, "<requeue>") > 1 {
				t.Errorf("calls:\n%s", calls)
			}
			if !c.requeued && !strings.Contains(notes, "not requeued") && !strings.Contains(notes, "itself") {
				t.Errorf("nobody is told why:\n%s", notes)
			}
		})
	}
}

func TestATaskRunsThoseThatFailedBeforeItsSubmissionOnce(t *testing.T) {
	d := plan(t, "plan", 1)
	trial := d.Plan.Trials[0]
	ran := filepath.Join(t.TempDir(), "ran")
	task := Task{
		Dir: d, Submission: Submission{Version: version, CPUs: 1, Tasks: [][]string{{trial.ID}}, Retry: true},
		Getenv: os.Getenv, Note: t.Logf,
		Command: func(sweep.Trial, int) sweep.Command {
			return sweep.Command{Path: "/bin/sh", Args: []string{"sh", "-c", `printf x >>"$1"; exit 1`, "trial", ran}}
		},
	}
	for i, created := range []time.Time{time.Now().Add(-time.Hour), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)} {
		task.Submission.Created = created
		if r, err := task.Run(context.Background()); err != nil || r.Failed != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		if text, err := os.ReadFile(ran); err != nil || string(text) != []string{"x", "x", "xx"}[i] {
			t.Errorf("run %d: %q, %v", i, text, err)
		}
	}
}
