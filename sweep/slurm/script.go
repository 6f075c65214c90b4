package slurm

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
)

// warning is how long before its end Slurm tells a task to save. By its
// documentation the signal may come up to 60 s earlier than that.
const warning = 60 * time.Second

// shortest is the least limit of time in which a task does some work.
const shortest = 3 * time.Minute

// script is what a task runs. exec makes tern the process that Slurm signals.
// Nothing of the plan stands in it but the name of its directory.
func script(o Options, dir, submission string) string {
	words := ""
	for _, f := range o.Flags {
		words += " " + sweep.ShellWord(f)
	}
	return fmt.Sprintf(`#!/bin/sh
# A task of an array that tern sweep run --engine slurm submitted: its share of
# the trials stands in %s.
exec %s sweep work %s --submission %s --task "$SLURM_ARRAY_TASK_ID"%s
`, tasksFile, sweep.ShellWord(o.Program), sweep.ShellWord(dir), submission, words)
}

// arguments are those of sbatch: the options, and the script's path last.
func arguments(o Options, s Submission, path string) []string {
	array := "--array=0-" + strconv.Itoa(len(s.Tasks)-1)
	if o.MaxRunning > 0 {
		array += "%" + strconv.Itoa(o.MaxRunning)
	}
	args := []string{
		"--parsable", "--job-name=" + s.Job, array, "--requeue", "--open-mode=append",
		fmt.Sprintf("--signal=B:TERM@%d", int(warning.Seconds())),
		"--output=" + pattern(filepath.Join(path, "log-%a")), "--chdir=" + filepath.Dir(filepath.Dir(path)),
		"--nodes=1", "--ntasks=1", "--cpus-per-task=" + strconv.Itoa(o.CPUs),
	}
	if o.Partition != "" {
		args = append(args, "--partition="+o.Partition)
	}
	if o.Time > 0 {
		args = append(args, "--time="+timeLimit(o.Time))
	}
	if mem := memory(o.Memory, s.Memory); mem != "" {
		args = append(args, "--mem="+mem)
	}
	return append(append(args, o.Args...), filepath.Join(path, scriptFile))
}

// pattern is the name of a file in which %a is the task's index; in what comes
// before it %% is a percent sign.
func pattern(path string) string {
	dir, base := filepath.Split(path)
	return strings.ReplaceAll(dir, "%", "%%") + base
}

// timeLimit writes a duration as sbatch reads it, in whole seconds rounded up.
func timeLimit(d time.Duration) string {
	s := int64((d + time.Second - 1) / time.Second)
	text := fmt.Sprintf("%02d:%02d:%02d", s%86400/3600, s%3600/60, s%60)
	if days := s / 86400; days > 0 {
		return fmt.Sprintf("%d-%s", days, text)
	}
	return text
}

// memory is what --mem is given: auto is the estimate, if there is one.
func memory(option string, estimate int64) string {
	switch option {
	case "", "auto":
		if estimate == 0 {
			return ""
		}
		return strconv.FormatInt((estimate+1<<20-1)>>20, 10) + "M"
	case "none":
		return ""
	}
	return option
}

// checkPath refuses a plan's directory that Slurm cannot be told about.
func checkPath(dir string) error {
	for _, r := range dir {
		if r < ' ' || r == 0x7f || r == '\\' {
			err := errors.Wrapf(ErrOption, "directory %q: Slurm takes no backslashes and control characters in names of files", dir)
			return errors.WithHint(err, "rename the directory")
		}
	}
	return nil
}
