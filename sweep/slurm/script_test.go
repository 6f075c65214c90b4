//go:build unix

package slurm

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// awkward is a path with all that a shell would take apart.
const awkward = "/data/a plan and it's, $HOME `id` $(id) \"%a\" * ; & | <x>#"

func TestScriptNamesThePlanAndTheIndex(t *testing.T) {
	o := Options{Program: "/opt/tern/bin/tern", Flags: []string{"--plugin", "it's mine"}}
	text := script(o, awkward, "20261128-060000")
	file := filepath.Join("testdata", "script.golden")
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || text != string(want) {
		t.Errorf("%v\n%s\nwant\n%s", err, text, want)
	}
}

// A shell hands the words of the script on as they are.
func TestScriptSurvivesTheShell(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "it's $tern")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nfor w; do printf '%s\\n' \"$w\"; done\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh")
	cmd.Stdin = strings.NewReader(script(Options{Program: program, Flags: []string{"--plugin", "a b"}}, awkward, "S"))
	cmd.Env = []string{"SLURM_ARRAY_TASK_ID=7"}
	out, err := cmd.CombinedOutput()
	want := []string{"sweep", "work", awkward, "--submission", "S", "--task", "7", "--plugin", "a b", ""}
	if have := strings.Split(string(out), "\n"); err != nil || !slices.Equal(have, want) {
		t.Errorf("%v\n%q\nwant\n%q", err, have, want)
	}
}

func TestArgumentsOfSbatch(t *testing.T) {
	s := Submission{Job: "tern-x-S", Tasks: make([][]string, 12), Memory: 100<<20 + 1}
	o := Options{
		CPUs: 4, Partition: "short", Time: 25*time.Hour + 90*time.Second, MaxRunning: 3, Args: []string{"--account=lab", "--signal=B:TERM@300"},
	}
	want := []string{
		"--parsable", "--job-name=tern-x-S", "--array=0-11%3", "--requeue", "--open-mode=append", "--signal=B:TERM@60",
		"--output=/p/50%% a/slurm/S/log-%a", "--chdir=/p/50% a", "--nodes=1", "--ntasks=1", "--cpus-per-task=4",
		"--partition=short", "--time=1-01:01:30", "--mem=101M", "--account=lab", "--signal=B:TERM@300", "/p/50% a/slurm/S/script.sh",
	}
	if have := arguments(o, s, "/p/50% a/slurm/S"); !slices.Equal(have, want) {
		t.Errorf("%q\nwant\n%q", have, want)
	}
	least := arguments(Options{CPUs: 1, Memory: "none"}, s, "/p/slurm/S")
	for _, a := range least {
		for _, not := range []string{"--mem", "--time", "--partition", "%3"} {
			if strings.HasPrefix(a, not) || strings.HasSuffix(a, not) {
				t.Errorf("%s, which nobody asked for", a)
			}
		}
	}
}

func TestJobNamesAreOfPlainLetters(t *testing.T) {
	for plan, want := range map[string]string{
		"a sweep":               "tern-a_sweep-S",
		"ä;%j":                  "tern-___j-S",
		strings.Repeat("x", 90): "tern-" + strings.Repeat("x", 40) + "-S",
	} {
		if have := jobName(plan, "S"); have != want {
			t.Errorf("%q: %s, want %s", plan, have, want)
		}
	}
}
