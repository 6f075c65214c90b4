package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ternlm/tern/formats/checkpoint"
)

// inSmall prepares the small texts in a new directory and works there.
func inSmall(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := writeSmall("."); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"train", "valid"} {
		mustRun(t, nil, "data", "prepare", name+".txt", "--out", name, "--tokenizer", "gpt2:320")
	}
}

// mustRun runs a command in this process, which must succeed.
func mustRun(t *testing.T, signals chan os.Signal, args ...string) (stdout string) {
	t.Helper()
	var out, log bytes.Buffer
	if code := Main(args, &out, &log, signals); code != 0 {
		t.Fatalf("tern %s: exit status %d\n%s", strings.Join(args, " "), code, log.String())
	}
	return out.String()
}

// ownProgram returns a path of this test's program at which it is tern.
func ownProgram(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "tern") // TestMain goes by this name
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	return program
}

// trigger is a writer that calls fn when text is written first.
type trigger struct {
	io.Writer
	text string
	fn   func()
	once sync.Once
}

func (w *trigger) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.once.Do(w.fn)
	}
	return w.Writer.Write(p)
}

// checkpointBytes are the files of a run's newest checkpoint.
func checkpointBytes(t *testing.T, run string) string {
	t.Helper()
	dir, _, err := checkpoint.Latest(run)
	if err != nil {
		t.Fatal(err)
	}
	var all string
	for _, name := range []string{"manifest.json", "tensors.safetensors"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all += filepath.Base(dir) + string(b)
	}
	return all
}

func TestInterruptSavesAndTheRunGoesOn(t *testing.T) {
	inSmall(t)
	args := []string{"train", "--config", "small.yaml", "--steps", "40", "--log-every", "1", "--save-every", "-1"}
	mustRun(t, nil, append(args, "--out", "whole")...)

	signals := make(chan os.Signal, 2)
	var out, log bytes.Buffer
	stderr := &trigger{Writer: &log, text: "step 5/40", fn: func() { signals <- os.Interrupt }}
	args = append(args, "--out", "cut")
	if code := Main(args, &out, stderr, signals); code != exitInterrupted {
		t.Fatalf("exit status %d, want %d\n%s", code, exitInterrupted, log.String())
	}
	entries, err := checkpoint.List("cut")
	if err != nil || len(entries) != 1 || entries[0].Step < 5 || entries[0].Step >= 40 {
		t.Fatalf("checkpoints after the interrupt: %v, %v", entries, err)
	}
	if !strings.Contains(log.String(), "--resume auto") {
		t.Errorf("no hint to go on:\n%s", log.String())
	}
	mustRun(t, nil, append(args, "--resume", "auto")...)
	if checkpointBytes(t, "cut") != checkpointBytes(t, "whole") {
		t.Error("the run that was interrupted ends with another checkpoint")
	}
}

func TestInterruptAfterTheLastStepEndsAtOnceAndTheRunIsFinishedLater(t *testing.T) {
	inSmall(t)
	args := []string{"train", "--config", "small.yaml", "--steps", "4", "--log-every", "1", "--out", "cut"}
	signals := make(chan os.Signal) // sent when it is received
	var out, log bytes.Buffer
	stderr := &trigger{Writer: &log, text: "step 4/4", fn: func() {
		signals <- os.Interrupt
		time.Sleep(50 * time.Millisecond)
	}}
	if code := Main(args, &out, stderr, signals); code != exitInterrupted {
		t.Fatalf("exit status %d, want %d\n%s", code, exitInterrupted, log.String())
	}
	if _, err := os.Stat(filepath.Join("cut", modelFile)); err == nil {
		t.Error("it went on to export the model")
	}
	if !strings.Contains(log.String(), "--resume auto evaluates and exports") {
		t.Errorf("no hint to finish:\n%s", log.String())
	}
	mustRun(t, nil, append(args, "--resume", "auto")...)
	if _, err := os.Stat(filepath.Join("cut", modelFile)); err != nil {
		t.Error(err)
	}
}

func TestInterruptBeforeTheFirstStepLeavesNothing(t *testing.T) {
	inSmall(t)
	signals := make(chan os.Signal, 2)
	var out, log bytes.Buffer
	stderr := &trigger{Writer: &log, text: "model ", fn: func() { // announced: set up, and not yet begun
		signals <- os.Interrupt
		time.Sleep(50 * time.Millisecond)
	}}
	if code := Main([]string{"train", "--config", "small.yaml", "--out", "cut"}, &out, stderr, signals); code != exitInterrupted {
		t.Fatalf("exit status %d, want %d\n%s", code, exitInterrupted, log.String())
	}
	if strings.Contains(log.String(), "--resume") || strings.Contains(log.String(), "saving") {
		t.Errorf("it claims that something is saved:\n%s", log.String())
	}
	if _, err := os.Stat("cut"); err == nil {
		t.Error("the run's directory was made")
	}
}

// TestKilledRunEqualsWholeRun kills a training, with SIGKILL and at random
// moments, until it comes to its end.
func TestKilledRunEqualsWholeRun(t *testing.T) {
	inSmall(t)
	program := ownProgram(t)
	for _, threads := range []string{"1", "2"} {
		args := []string{"train", "--config", "small.yaml", "--steps", "40", "--save-every", "1", "--keep", "2", "--threads", threads}
		mustRun(t, nil, append(args, "--out", "whole"+threads)...)
		args = append(args, "--out", "killed"+threads, "--resume", "auto")
		kills := 0
		for attempt := 0; ; attempt++ {
			if attempt == 200 {
				t.Fatal("the run does not come to its end")
			}
			var log bytes.Buffer
			cmd := exec.Command(program, args...)
			cmd.Stderr = &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// Later attempts live longer, so that there is an end.
			life := time.Duration(30+rand.IntN(100)+40*attempt) * time.Millisecond
			timer := time.AfterFunc(life, func() { _ = cmd.Process.Kill() })
			err := cmd.Wait()
			if timer.Stop() || err == nil {
				if err != nil {
					t.Fatalf("%v\n%s", err, log.String())
				}
				break
			}
			kills++
		}
		t.Logf("%s threads: killed %d times", threads, kills)
		if kills == 0 {
			t.Error("the run was never killed: its life is too long")
		}
		if checkpointBytes(t, "killed"+threads) != checkpointBytes(t, "whole"+threads) {
			t.Errorf("%s threads: the killed run ends with another checkpoint", threads)
		}
	}
	if checkpointBytes(t, "whole1") != checkpointBytes(t, "whole2") {
		t.Error("1 and 2 threads end with different checkpoints")
	}
}
