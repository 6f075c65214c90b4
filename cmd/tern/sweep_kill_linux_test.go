package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/internal/filelock"
	"github.com/ternlm/tern/sweep"
)

// killSpec is four trials that save after every step.
const killSpec = `base: {steps: 60, save_every: 1, log_every: 1, keep: 2}
grid: {residual: [standard, "mhclite:streams=2"]}
seeds: 2
`

// planIn plans the text of a spec with the small settings.
func planIn(t *testing.T, dir, spec string) *sweep.Dir {
	t.Helper()
	if err := os.WriteFile("spec.yaml", []byte(spec), 0o666); err != nil {
		t.Fatal(err)
	}
	mustRun(t, nil, "sweep", "plan", "spec.yaml", "--config", "small.yaml", "--out", dir)
	d, err := sweep.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// scheduler is a process that runs a plan.
type scheduler struct {
	*exec.Cmd
	log  bytes.Buffer
	done chan error
}

func startScheduler(t *testing.T, program string, args ...string) *scheduler {
	t.Helper()
	s := &scheduler{Cmd: exec.Command(program, append([]string{"sweep", "run"}, args...)...), done: make(chan error, 1)}
	s.Stderr = &s.log
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.Wait() }()
	return s
}

// killTrial kills the process that trains a trial, if there is one.
func killTrial(d *sweep.Dir, id string) bool {
	h, held, err := filelock.Held(filepath.Join(d.TrialDir(id), "lock"))
	if err != nil || !held || h.PID == 0 {
		return false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.PID))
	if err != nil || !strings.Contains(string(line), id) {
		return false // the words of an earlier holder
	}
	p, err := os.FindProcess(h.PID)
	return err == nil && p.Kill() == nil
}

// killer has a number of steps for each trial at which something is killed.
type killer struct {
	rng   *rand.Rand
	due   map[string][]int
	kills [2]int // of trials, of schedulers
}

func newKiller(d *sweep.Dir, each int) *killer {
	k := &killer{rng: rand.New(rand.NewPCG(20, 7)), due: map[string][]int{}}
	for _, t := range d.Plan.Trials {
		for i := range each {
			k.due[t.ID] = append(k.due[t.ID], i*t.Steps()/each+k.rng.IntN(t.Steps()/each-2))
		}
	}
	return k
}

// strike kills once where a trial has come to its next step, and reports whether
// that was the scheduler.
func (k *killer) strike(d *sweep.Dir, s *scheduler) bool {
	for _, t := range d.Plan.Trials {
		due := k.due[t.ID]
		if len(due) == 0 || d.Progress(t).Step < due[0] {
			continue
		}
		if _, held, err := filelock.Held(filepath.Join(d.TrialDir(t.ID), "lock")); err != nil || !held {
			continue
		}
		time.Sleep(time.Duration(k.rng.IntN(15)) * time.Millisecond)
		if len(due)%2 == 0 {
			if s.Process.Kill() == nil {
				k.kills[1]++
			}
			k.due[t.ID] = due[1:]
			return true
		}
		if killTrial(d, t.ID) {
			k.kills[0]++
			k.due[t.ID] = due[1:]
		}
	}
	return false
}

// TestAKilledSweepEqualsAWholeOne kills trials and schedulers, with SIGKILL, until
// each trial met five.
func TestAKilledSweepEqualsAWholeOne(t *testing.T) {
	inSmall(t)
	program := ownProgram(t)
	whole, killed := planIn(t, "whole", killSpec), planIn(t, "killed", killSpec)
	if s := startScheduler(t, program, "whole"); <-s.done != nil {
		t.Fatal(s.log.String())
	}
	k := newKiller(killed, 5)
	for run := 0; ; run++ {
		if run == 100 {
			t.Fatal("the sweep does not come to its end")
		}
		s := startScheduler(t, program, "killed", "--jobs", "2")
		if k.watch(t, killed, s) {
			break
		}
	}
	t.Logf("killed %d trials and %d schedulers", k.kills[0], k.kills[1])
	if k.kills[0]+k.kills[1] < 15 || k.kills[0] == 0 || k.kills[1] == 0 {
		t.Error("too little was killed")
	}
	for i, trial := range whole.Plan.Trials {
		compareTrials(t, whole, killed, trial)
		if killed.Plan.Trials[i].ID != trial.ID {
			t.Error("the plans differ")
		}
	}
}

// watch kills until a scheduler has ended, and reports whether all trials are
// done.
func (k *killer) watch(t *testing.T, d *sweep.Dir, s *scheduler) bool {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		select {
		case err := <-s.done:
			return err == nil
		default:
		}
		if time.Now().After(deadline) {
			_ = s.Process.Kill()
			t.Fatalf("a run does not end\n%s", s.log.String())
		}
		if k.strike(d, s) {
			<-s.done
			return false
		}
	}
}

// compareTrials compares results, model files and metrics but for times.
func compareTrials(t *testing.T, a, b *sweep.Dir, trial sweep.Trial) {
	t.Helper()
	var results [2]sweep.Result
	var metrics [2][]map[string]any
	for i, d := range []*sweep.Dir{a, b} {
		state, r, _, err := d.Status(trial)
		if err != nil || state != sweep.Done {
			t.Fatalf("%s is %s, %v", trial.Cell, state, err)
		}
		sum, err := fileSHA256(filepath.Join(d.TrialDir(trial.ID), modelFile))
		if err != nil || sum != r.ModelSHA256 {
			t.Errorf("model.gguf has SHA-256 %s, its result says %s", sum, r.ModelSHA256)
		}
		r.Seconds, r.PerSecond, r.PeakMemory, r.Attempts, r.Finished, r.Threads, r.Diagnosis = 0, 0, 0, 0, time.Time{}, 0, nil
		results[i] = *r
		text, err := os.ReadFile(filepath.Join(d.TrialDir(trial.ID), "metrics.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var e map[string]any
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatal(err)
			}
			for _, k := range []string{"tokens_per_s", "seconds", "eta_s", "saved"} {
				delete(e, k)
			}
			if diagnosis, ok := e["diagnosis"].(map[string]any); ok {
				delete(diagnosis, "flips") // since the last diagnosis of the process
			}
			metrics[i] = append(metrics[i], e)
		}
	}
	if d := cmp.Diff(results[0], results[1]); d != "" {
		t.Errorf("%s seed %d: results differ: %s", trial.Cell, trial.Seed, d)
	}
	if d := cmp.Diff(metrics[0], metrics[1]); d != "" || len(metrics[0]) != trial.Steps() {
		t.Errorf("%s seed %d: %d lines of metrics differ: %s", trial.Cell, trial.Seed, len(metrics[0]), d)
	}
}

func TestASecondSchedulerAndASecondTrainingAreRefused(t *testing.T) {
	inSmall(t)
	program := ownProgram(t)
	d := planIn(t, "plan", strings.Replace(killSpec, "steps: 60", "steps: 400000", 1))
	s := startScheduler(t, program, "plan", "--jobs", "1")
	first := d.Plan.Trials[0]
	for begin := time.Now(); d.Progress(first).Step == 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatal(s.log.String())
		}
	}
	for want, args := range map[string][]string{
		fmt.Sprintf("process %d on ", s.Process.Pid): {"sweep", "run", "plan"},
		"lock: process ": {"sweep", "trial", "plan", first.ID},
		"another training is at work in " + d.TrialDir(first.ID): {
			"train", "--config", "small.yaml", "--out", d.TrialDir(first.ID), "--resume", "auto",
		},
	} {
		var out, log bytes.Buffer
		if code := Main(args, &out, &log, nil); code != exitFailed || !strings.Contains(log.String(), want) {
			t.Errorf("%v: exit status %d, want %q\n%s", args, code, want, log.String())
		}
	}
	// A signal saves, and the status says that the same command goes on.
	if err := s.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-s.done
	state, _, f, err := d.Status(first)
	if err != nil || state != sweep.Interrupted || f == nil || f.Exit != exitInterrupted || s.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("%s, %+v, %v, exit status %d\n%s", state, f, err, s.ProcessState.ExitCode(), s.log.String())
	}
	step := d.Progress(first).Step
	var log bytes.Buffer
	timed := exec.Command(program, "sweep", "run", "plan", "--jobs", "1", "--time-limit", "1ns")
	timed.Stderr = &log
	if _ = timed.Run(); timed.ProcessState.ExitCode() != exitStopped || d.Progress(first).Step < step {
		t.Errorf("exit status %d\n%s", timed.ProcessState.ExitCode(), log.String())
	}
}

func TestATrialThatFailsWhileItRunsIsListedAndStopsNoOther(t *testing.T) {
	inSmall(t)
	program := ownProgram(t)
	d := planIn(t, "plan", "base: {optimizer: adamw, clip: 0, steps: 8, quant: none}\ngrid: {other_lr: [0.01, 10], matrix_lr: [0.01, 10]}\n")
	// Texts that are gone fail as a configuration does, and so does a checkpoint
	// that nobody can read.
	broken := d.TrialDir(d.Plan.Trials[3].ID)
	if err := os.MkdirAll(filepath.Join(broken, "step-00000004"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "step-00000004", "manifest.json"), []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	s := startScheduler(t, program, "plan")
	if <-s.done; s.ProcessState.ExitCode() != exitFailed {
		t.Fatalf("exit status %d\n%s", s.ProcessState.ExitCode(), s.log.String())
	}
	for _, want := range []string{"3 of 4 done, 1 failed", "none of the 1 checkpoints", filepath.Join(broken, "log"), "--retry"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("no %q in\n%s", want, s.log.String())
		}
	}
	_, _, f, err := d.Status(d.Plan.Trials[3])
	if err != nil || f == nil || f.State != sweep.Failed || f.Exit != exitFailed || !strings.HasPrefix(f.Error, "error: none of the 1 checkpoints") {
		t.Errorf("%+v, %v", f, err)
	}
}
