package slurm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"
)

// Errors of Slurm's commands.
var (
	ErrMissing = errors.New("command of Slurm not found")
	ErrRefused = errors.New("refused by Slurm")
)

// command runs one of Slurm's commands and returns what it prints. ErrMissing
// where it is not installed, ErrRefused, with its own words, where it fails.
func command(ctx context.Context, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		err = errors.Wrapf(ErrMissing, "%s", name)
		return "", errors.WithHint(err, "run this on a machine that submits to the cluster (Debian: apt-get install slurm-client), or use --engine local")
	}
	var out, words bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = &out, &words
	// Times and fields as this package reads them, whatever the user likes to see.
	cmd.Env = append(without(os.Environ(), "SQUEUE_", "SLURM_TIME_FORMAT"), "SLURM_TIME_FORMAT=standard")
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		text := strings.TrimSpace(words.String())
		if text == "" {
			text = name + ": " + err.Error()
		}
		return "", errors.Wrapf(ErrRefused, "%s", text)
	}
	return out.String(), nil
}

// without drops the variables whose names begin so.
func without(environ []string, prefixes ...string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(e string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(e, p) })
	})
}

// submit hands a job to sbatch and returns its number.
func submit(ctx context.Context, args []string) (string, error) {
	out, err := command(ctx, "sbatch", args...)
	if err != nil {
		return "", err
	}
	// NUMBER, or NUMBER;CLUSTER; a site's own wrapper may say more before it.
	lines := strings.Split(strings.TrimSpace(out), "\n")
	id, _, _ := strings.Cut(strings.TrimSpace(lines[len(lines)-1]), ";")
	if _, err := strconv.ParseUint(id, 10, 64); err != nil {
		return "", errors.Newf("sbatch --parsable printed %.200q, which is no job's number", out)
	}
	return id, nil
}

// queued reports whether a job waits or runs, by its number, or else its name.
func queued(ctx context.Context, id, name string) (bool, error) {
	by := []string{"--jobs=" + id}
	if id == "" {
		by = []string{"--me", "--name=" + name}
	}
	out, err := command(ctx, "squeue", append(by, "--noheader", "--format=%T")...)
	if errors.Is(err, ErrRefused) && strings.Contains(strings.ToLower(err.Error()), "invalid job id") {
		return false, nil // ended so long ago that Slurm forgot it
	}
	return strings.TrimSpace(out) != "", err
}

// jobState is what Slurm calls the state of a task, such as RUNNING.
func jobState(ctx context.Context, task string) (string, error) {
	out, err := command(ctx, "scontrol", "show", "job", "--oneliner", task)
	if err != nil {
		return "", err
	}
	for _, field := range strings.Fields(out) {
		if state, ok := strings.CutPrefix(field, "JobState="); ok {
			return state, nil
		}
	}
	return "", errors.Newf("scontrol show job %s names no JobState: %.200q", task, out)
}

// defaultArraySize is Slurm's own MaxArraySize.
const defaultArraySize = 1001

// maxTasks is the number of tasks that the cluster takes in one array. Where it
// cannot be asked that is Slurm's own: sbatch says what is wrong, if it is run.
func maxTasks(ctx context.Context) (int, error) {
	out, err := command(ctx, "scontrol", "show", "config")
	if errors.IsAny(err, ErrRefused, ErrMissing) {
		return defaultArraySize, nil
	}
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(line, "=")
		if strings.TrimSpace(name) != "MaxArraySize" {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil || n < 2 {
			return 0, errors.WithHint(errors.Newf("the cluster takes no job arrays: MaxArraySize is %s", strings.TrimSpace(value)), "use --engine local on a node")
		}
		return n, nil // indexes are below it
	}
	return defaultArraySize, nil
}
