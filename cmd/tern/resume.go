package main

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/checkpoint"
)

// start says where a run begins: a directory, and perhaps a checkpoint.
type start struct {
	out    string // directory of the run
	dir    string // of the checkpoint
	snap   *checkpoint.Snapshot
	config *resolved // of the checkpoint
}

// chooseStart finds out where a run begins, from --out and --resume.
func (a *app) chooseStart(s *settings) (start, error) {
	out, resume := s.set.Value("out"), s.set.Value("resume")
	switch resume {
	case "none", "":
		if out == "" {
			out = filepath.Join("runs", s.set.Value("preset")+"-"+time.Now().Format("20060102-150405"))
		}
		return start{out: out}, refuseUsed(out)
	case "auto":
		if out == "" {
			if out = latestRun(s.set.Value("preset")); out == "" {
				return start{}, usagef("name the run's directory with --out", "--resume auto: there is no run in runs")
			}
		}
		return a.resumeLatest(out, true)
	}
	dir, out, err := resumeTarget(resume, out)
	if err != nil {
		return start{}, err
	}
	if dir == "" {
		return a.resumeLatest(out, false)
	}
	snap, err := checkpoint.Load(dir)
	if err != nil {
		return start{}, err
	}
	return resumed(out, dir, snap)
}

// resumeTarget says whether path is a checkpoint (dir) or a run.
func resumeTarget(path, out string) (dir, run string, err error) {
	if _, err := os.Stat(path); err != nil {
		return "", "", usagef("give auto, none, a run's directory or a step-... directory in one", "--resume %s: there is no such directory", path)
	}
	run = filepath.Clean(path)
	if strings.HasPrefix(filepath.Base(run), "step-") {
		dir, run = run, filepath.Dir(run)
	}
	if out == "" || filepath.Clean(out) == run {
		return dir, run, nil
	}
	if err := refuseUsed(out); err != nil {
		return "", "", err
	}
	if dir == "" {
		if dir, _, err = checkpoint.Latest(run); err != nil {
			return "", "", err
		}
	}
	return dir, out, nil
}

// resumeLatest takes the newest sound checkpoint of a run. With fresh, a run
// that has none begins.
func (a *app) resumeLatest(out string, fresh bool) (start, error) {
	found, err := checkpoint.LoadLatest(out)
	for _, b := range found.Broken {
		a.note("skipped %s: %v", b.Dir, b.Err)
	}
	if fresh && errors.Is(err, checkpoint.ErrNotFound) && len(found.Broken) == 0 {
		a.note("no checkpoint in %s yet: starting from the beginning", out)
		return start{out: out}, nil
	}
	if errors.Is(err, checkpoint.ErrNotFound) && len(found.Broken) > 0 {
		// The reasons are told above.
		err = errors.Wrapf(checkpoint.ErrNotFound, "none of the %d checkpoints in %s is usable", len(found.Broken), out)
		err = errors.WithHint(err, "start without --resume in another directory, or name another run")
	}
	if err != nil {
		return start{}, err
	}
	return resumed(out, found.Dir, found.Snapshot)
}

func resumed(out, dir string, snap *checkpoint.Snapshot) (start, error) {
	c, err := parseResolved(snap.Config)
	return start{out: out, dir: dir, snap: snap, config: c}, errors.Wrapf(err, "%s", dir)
}

// refuseUsed reports a directory that holds a run.
func refuseUsed(out string) error {
	entries, err := checkpoint.List(out)
	if err != nil {
		return err
	}
	used := len(entries) > 0
	for _, name := range []string{runFile, modelFile} {
		if _, err := os.Stat(filepath.Join(out, name)); err == nil {
			used = true
		}
	}
	if !used {
		return nil
	}
	return usagef("go on with --resume auto, or choose another directory with --out", "%s holds a run already", out)
}

// latestRun returns the directory of a preset's newest run in runs, "" when
// there is none.
func latestRun(preset string) string {
	dirs, err := filepath.Glob(filepath.Join("runs", preset+"-[0-9]*"))
	if err != nil || len(dirs) == 0 {
		return ""
	}
	return dirs[len(dirs)-1] // Glob sorts, and names end with date and time
}
