package sweep

import (
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/internal/filelock"
	"github.com/ternlm/tern/internal/regularfile"
)

// Errors of a plan's directory.
var (
	ErrPlan    = errors.New("bad plan")
	ErrVersion = errors.New("plan of another version")
)

// Names in a plan's directory.
const (
	planFile     = "plan.json"
	specFile     = "spec.yaml"
	lockFile     = "lock"
	trialsDir    = "trials"
	resultFile   = "result.json"
	failureFile  = "failure.json"
	attemptsFile = "attempts.jsonl"
	logFile      = "log"
	metricsFile  = "metrics.jsonl"
)

// Limits of what is read.
const (
	maxPlan   = 256 << 20
	maxRecord = 4 << 20 // result.json, failure.json
)

// Dir is a directory with a frozen plan.
type Dir struct {
	Path string
	Plan Plan

	index map[string]int // of trials, by ID
}

// Open reads the plan in dir. ErrPlan for one that is damaged or no plan,
// ErrVersion for one of another version.
func Open(dir string) (*Dir, error) {
	path := filepath.Join(dir, planFile)
	text, err := readBounded(path, maxPlan)
	if errors.Is(err, os.ErrNotExist) {
		err = errors.Mark(errors.Wrapf(err, "%s holds no plan", dir), ErrPlan)
		return nil, errors.WithHint(err, "make one with tern sweep plan SPEC.yaml --out "+dir)
	}
	if err != nil {
		return nil, errors.Mark(err, ErrPlan)
	}
	p, err := parsePlan(text)
	if err != nil {
		return nil, errors.Wrap(err, path)
	}
	d := &Dir{Path: dir, Plan: p, index: map[string]int{}}
	for i, t := range p.Trials {
		d.index[t.ID] = i
	}
	return d, nil
}

// readBounded reads a regular file of at most so many bytes.
func readBounded(path string, most int64) ([]byte, error) {
	f, size, err := regularfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > most {
		return nil, errors.Newf("%s has %d bytes, more than %d", path, size, most)
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// parsePlan reads and checks the text of a plan.
func parsePlan(text []byte) (p Plan, err error) {
	var head struct {
		Version int `json:"version"`
	}
	damaged := func(err error) error {
		return errors.WithHint(errors.Wrapf(ErrPlan, "%v", err), "the file is damaged: plan again, in another directory")
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return p, damaged(err)
	}
	if head.Version != Version {
		err := errors.Wrapf(ErrVersion, "version %d, this program has %d", head.Version, Version)
		return p, errors.WithHint(err, "use the program that made the plan, or plan again in another directory")
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, damaged(err)
	}
	if err := p.check(); err != nil {
		return p, errors.WithHint(err, "the file is damaged: plan again, in another directory")
	}
	return p, nil
}

// check reports the first thing that is wrong with a plan.
func (p Plan) check() error {
	if err := CheckName(p.Name); err != nil {
		return errors.Mark(err, ErrPlan)
	}
	if n := len(p.Trials); n == 0 || n > MaxTrials {
		return errors.Wrapf(ErrPlan, "%d trials, wants 1 to %d", n, MaxTrials)
	}
	seen := map[string]bool{}
	baseline := false
	for i, t := range p.Trials {
		if err := t.check(); err != nil {
			return errors.Mark(errors.Wrapf(err, "trial %d", i), ErrPlan)
		}
		if seen[t.ID] {
			return errors.Wrapf(ErrPlan, "trial %s is there twice", t.ID)
		}
		seen[t.ID] = true
		baseline = baseline || t.Cell == p.Baseline
	}
	if p.Baseline != "" && !baseline {
		return errors.Wrapf(ErrPlan, "baseline %.60q is no cell", p.Baseline)
	}
	return nil
}

// check reports the first thing that is wrong with a trial.
func (t Trial) check() error {
	if id, err := ID(t.Config); err != nil || id != t.ID {
		return errors.Wrapf(ErrPlan, "the configuration of %.16q does not have that ID", t.ID)
	}
	texts := []string{t.Cell}
	for k, v := range t.Settings {
		texts = append(texts, k, v)
	}
	for k, v := range t.Axes {
		texts = append(texts, k, v)
	}
	for _, s := range texts {
		if err := checkText(s); err != nil {
			return err
		}
	}
	if t.Parameters < 0 || t.Memory < 0 || !(t.StepFLOPs >= 0 && t.StepFLOPs <= math.MaxFloat64) {
		return errors.Wrapf(ErrPlan, "%s: %d parameters, %d bytes, %v operations", t.ID, t.Parameters, t.Memory, t.StepFLOPs)
	}
	return nil
}

// Trial returns the trial of an ID. ErrUnknown, with the nearest one, for another.
func (d *Dir) Trial(id string) (Trial, error) {
	if i, ok := d.index[id]; ok {
		return d.Plan.Trials[i], nil
	}
	var ids []string
	for _, t := range d.Plan.Trials[:min(len(d.Plan.Trials), 1000)] {
		ids = append(ids, t.ID)
	}
	hint := "tern sweep watch " + d.Path + " --once lists them"
	if near := framework.Nearest(id, ids); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return Trial{}, errors.WithHint(errors.Wrapf(framework.ErrUnknown, "trial %.40q in %s", id, d.Path), hint)
}

// TrialDir is the directory of a trial. It is made when the trial begins.
func (d *Dir) TrialDir(id string) string { return filepath.Join(d.Path, trialsDir, id) }

// Lock makes this process the scheduler of the plan. ErrHeld, with its process
// and machine, where there is one.
func (d *Dir) Lock() (*filelock.Lock, error) {
	l, err := filelock.Acquire(filepath.Join(d.Path, lockFile))
	if errors.Is(err, filelock.ErrHeld) {
		err = errors.WithHint(err, "a scheduler is at work on this plan: watch it with tern sweep watch "+d.Path)
	}
	return l, explain(err, d.Path)
}

// LockTrial makes this process the one that trains a trial, whose directory it
// makes. tern train takes the same lock of its directory.
func (d *Dir) LockTrial(id string) (*filelock.Lock, error) {
	if err := os.MkdirAll(d.TrialDir(id), 0o777); err != nil {
		return nil, explain(errors.Wrap(err, "make the trial's directory"), d.Path)
	}
	l, err := filelock.Acquire(filepath.Join(d.TrialDir(id), lockFile))
	return l, explain(err, d.Path)
}

// explain adds what to do about a place that cannot be written to.
func explain(err error, dir string) error {
	if errors.Is(err, os.ErrPermission) || isReadOnly(err) {
		return errors.WithHintf(err, "the plan is untouched; make %s writable, or copy it to a place that is", dir)
	}
	if isFull(err) {
		return errors.WithHint(err, "the disk is full: free some space and run again; what was saved before is untouched")
	}
	return err
}
