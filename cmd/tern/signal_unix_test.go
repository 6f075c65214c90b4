//go:build unix

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ternlm/tern/formats/checkpoint"
)

// interruptAt runs the program until its standard error holds text, sends it
// SIGINT, and returns its exit status and standard error.
func interruptAt(t *testing.T, text, program string, args ...string) (code int, log string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var b bytes.Buffer
	cmd.Stderr = &trigger{Writer: &b, text: text, fn: func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
	}}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), b.String()
	} else if err != nil {
		t.Fatal(err)
	}
	return 0, b.String()
}

func TestSignalSavesAndTheRunGoesOn(t *testing.T) {
	inSmall(t)
	program := ownProgram(t)
	args := []string{"train", "--config", "small.yaml", "--steps", "40", "--log-every", "1", "--save-every", "-1"}
	mustRun(t, nil, append(args, "--out", "whole")...)
	args = append(args, "--out", "cut", "--resume", "auto")

	// About the first step: there is something to go on from only if it is saved.
	code, log := interruptAt(t, "saves ", program, append(args, "--steps", "4000000", "--out", "early")...)
	early, err := checkpoint.List("early")
	if err != nil || code != exitInterrupted || (len(early) > 0) != strings.Contains(log, "to go on") {
		t.Fatalf("exit status %d, checkpoints %v, %v\n%s", code, early, err, log)
	}

	if code, log = interruptAt(t, "step 5/40", program, args...); code != exitInterrupted {
		t.Fatalf("exit status %d, want %d\n%s", code, exitInterrupted, log)
	}
	entries, err := checkpoint.List("cut")
	if err != nil || len(entries) != 1 || entries[0].Step < 5 || entries[0].Step >= 40 {
		t.Fatalf("checkpoints after the signal: %v, %v\n%s", entries, err, log)
	}
	if !strings.Contains(log, "--resume auto to go on") {
		t.Errorf("no hint to go on:\n%s", log)
	}
	mustRun(t, nil, args...)
	if checkpointBytes(t, "cut") != checkpointBytes(t, "whole") {
		t.Error("the run that was interrupted ends with another checkpoint")
	}
}
