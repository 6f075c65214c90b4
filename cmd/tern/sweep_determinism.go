package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
)

// errNotDeterministic is returned where two trainings of one trial differ.
var errNotDeterministic = errors.New("training is not deterministic")

// determinismSteps is how long the two trainings of --check-determinism are.
const determinismSteps = 20

// shortRun is what is compared of a training.
type shortRun struct {
	threads int
	losses  []float64
	norms   []float64
	model   []byte // model.gguf
}

// checkDeterminism trains the first trial of a plan twice for a few steps, with
// one thread and with all, and compares losses and files to the bit.
func (a *app) checkDeterminism(ctx context.Context, d *sweep.Dir) (err error) {
	t := d.Plan.Trials[0]
	steps := min(t.Steps(), determinismSteps)
	scratch, err := os.MkdirTemp("", "tern-determinism-")
	if err != nil {
		return errors.Wrap(err, "check determinism")
	}
	defer func() { err = errors.CombineErrors(err, os.RemoveAll(scratch)) }()
	threads := []int{1, max(2, runtime.GOMAXPROCS(0))}
	a.note("checking determinism: %s, %s with %d and %d threads", trialName(t), plural(steps, "step"), threads[0], threads[1])
	var runs []shortRun
	for i, n := range threads {
		r, err := a.trainShort(ctx, t, steps, n, filepath.Join(scratch, strconv.Itoa(i), "run")) // one name: it stands in the file
		if err != nil {
			return errors.Wrap(err, "check determinism")
		}
		runs = append(runs, r)
	}
	if diff := runs[0].difference(runs[1]); diff != "" {
		err := errors.Wrapf(errNotDeterministic, "%s with %d and %d threads: %s", t.Cell, threads[0], threads[1], diff)
		return errors.WithHint(err, "the backend or a plugin breaks the rules of docs/numerics.md; tern backend test checks a backend")
	}
	a.note("deterministic: %d losses and %s of model.gguf are equal to the bit", len(runs[0].losses), size(int64(len(runs[0].model))))
	return nil
}

// trainShort trains the beginning of a trial in a directory of its own.
func (a *app) trainShort(ctx context.Context, t sweep.Trial, steps, threads int, out string) (r shortRun, err error) {
	s, err := frozenSettings(t, out, trialFlags{threads: threads})
	if err != nil {
		return r, err
	}
	short := map[string]string{"steps": strconv.Itoa(steps), "log_every": "1", "eval_every": "-1", "save_every": "-1"}
	if err := s.give(short); err != nil {
		return r, err
	}
	if err := s.set.Load("", nil); err != nil { // again, for these
		return r, err
	}
	quiet := &app{
		stdout: a.stdout, stderr: &lockedWriter{Writer: io.Discard}, environ: a.environ, stop: a.stop, plugins: a.plugins,
	}
	j := &job{a: quiet, s: s, o: trainOutput{plain: true}}
	defer func() { err = errors.CombineErrors(err, j.close()) }()
	if err := j.setUp(ctx); err != nil {
		return r, err
	}
	if err := j.announce(); err != nil {
		return r, err
	}
	a.graceful.Store(true)
	if err := j.run(ctx); err != nil {
		return r, err
	}
	if _, _, err := j.deliver(ctx); err != nil {
		return r, err
	}
	return readShort(out, threads)
}

// readShort reads what a training left.
func readShort(out string, threads int) (r shortRun, err error) {
	r.threads = threads
	if r.model, err = os.ReadFile(filepath.Join(out, modelFile)); err != nil {
		return r, err
	}
	text, err := os.ReadFile(filepath.Join(out, "metrics.jsonl"))
	if err != nil {
		return r, err
	}
	sc := bufio.NewScanner(bytes.NewReader(text))
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		var e struct {
			Loss     float64 `json:"loss"`
			GradNorm float64 `json:"grad_norm"`
		}
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			return r, errors.Wrap(err, "metrics")
		}
		r.losses, r.norms = append(r.losses, e.Loss), append(r.norms, e.GradNorm)
	}
	return r, sc.Err()
}

// difference says where two trainings part, "" where they do not.
func (r shortRun) difference(o shortRun) string {
	if len(r.losses) != len(o.losses) {
		return strconv.Itoa(len(r.losses)) + " and " + strconv.Itoa(len(o.losses)) + " steps"
	}
	for _, v := range []struct {
		what string
		a, b []float64
	}{{"loss", r.losses, o.losses}, {"gradient norm", r.norms, o.norms}} {
		for i := range v.a {
			if math.Float64bits(v.a[i]) != math.Float64bits(v.b[i]) {
				return "the " + v.what + " of step " + strconv.Itoa(i+1) + " is " +
					strconv.FormatFloat(v.a[i], 'g', -1, 64) + " and " + strconv.FormatFloat(v.b[i], 'g', -1, 64)
			}
		}
	}
	if !bytes.Equal(r.model, o.model) {
		for i := range min(len(r.model), len(o.model)) {
			if r.model[i] != o.model[i] {
				return "model.gguf differs from byte " + strconv.Itoa(i) + " on"
			}
		}
		return "model.gguf has " + strconv.Itoa(len(r.model)) + " and " + strconv.Itoa(len(o.model)) + " bytes"
	}
	return ""
}
