package report

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/regularfile"
	"github.com/ternlm/tern/sweep"
)

// maxLoaded is about how many points of curves are kept of all trials.
const maxLoaded = 1_000_000

// Load reads the plan in dir and what became of its trials, from the files
// alone: it may be called while the sweep runs. A trial whose files are
// damaged is an outcome with a Problem. It returns the errors of sweep.Open.
func Load(dir string) (Input, error) {
	d, err := sweep.Open(dir)
	if err != nil {
		return Input{}, err
	}
	n := len(d.Plan.Trials)
	in := Input{Dir: dir, Plan: d.Plan, Outcomes: make([]Outcome, n)}
	limit := max(50, min(MaxPoints, maxLoaded/max(n, 1)))
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				in.Outcomes[i] = load(d, &d.Plan.Trials[i], limit)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return in, nil
}

// load reads a trial's directory.
func load(d *sweep.Dir, t *sweep.Trial, limit int) Outcome {
	o := Outcome{Trial: t.ID}
	var err error
	o.State, o.Result, o.Failure, err = d.Status(*t)
	if err == nil {
		err = o.check()
	}
	if err != nil {
		o.State, o.Result, o.Problem = sweep.Interrupted, nil, err.Error()
	}
	if o.State == sweep.Pending {
		return o
	}
	if path := filepath.Join(d.TrialDir(t.ID), "log"); isThere(path) {
		o.Log = path
	}
	if err := o.curves(filepath.Join(d.TrialDir(t.ID), "metrics.jsonl"), limit); err != nil && o.Problem == "" {
		o.Problem = err.Error()
	}
	return o
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// curves reads a metrics.jsonl; none is no error.
func (o *Outcome) curves(path string, limit int) error {
	f, size, err := regularfile.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if size > maxMetrics {
		return errors.Wrapf(ErrMetrics, "%s has %d bytes, at most %d are read", path, size, maxMetrics)
	}
	m, err := readMetrics(f, limit)
	o.Training, o.Evaluation, o.Last = m.training.done(), m.evaluation.done(), m.last
	return errors.Wrap(err, path)
}
