package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/stats"
)

// Schema is the version of report.json: names stay, new ones may be added.
const Schema = 1

// Report is a sweep compared: what all of the files show.
type Report struct {
	Schema     int          `json:"schema"`
	Name       string       `json:"name"`
	Created    time.Time    `json:"created"`    // the plan
	CreatedBy  string       `json:"created_by"` // the plan; program and version
	ReportedBy string       `json:"reported_by,omitempty"`
	Reproduce  []string     `json:"reproduce"` // commands, in their order
	Axes       []string     `json:"axes"`
	Baseline   string       `json:"baseline"` // a cell, or the values that it has where it differs
	Metric     Metric       `json:"metric"`   // that the comparisons are of
	Ran        Ran          `json:"ran"`
	Counts     Counts       `json:"counts"`
	Words      []string     `json:"words"` // sentences
	Warnings   []string     `json:"warnings,omitempty"`
	Cells      []*Cell      `json:"cells"`
	Unfinished []Unfinished `json:"unfinished,omitempty"`
	trials     []trial
}

// Ran is what the trials that are done ran with, each value once.
type Ran struct {
	Programs []string `json:"programs,omitempty"`
	Machines []string `json:"machines,omitempty"`
	Backends []string `json:"backends,omitempty"`
	Threads  []int    `json:"threads,omitempty"`
}

// Counts are numbers of trials.
type Counts struct {
	Planned int `json:"planned"`
	Done    int `json:"done"`
	Failed  int `json:"failed"`
	Missing int `json:"missing"` // pending, running or interrupted
}

// Cell is the trials that differ in their seed alone.
type Cell struct {
	Name        string            `json:"name"`
	Axes        map[string]string `json:"axes,omitempty"`
	Counts      Counts            `json:"counts"`
	Loss        *stats.Summary    `json:"loss,omitempty"`          // nats a token
	BitsPerByte *stats.Summary    `json:"bits_per_byte,omitempty"` //
	Comparison  *Comparison       `json:"comparison,omitempty"`    // not of a baseline
	Cost        Cost              `json:"cost"`
	Diagnosis   *Diagnosed        `json:"diagnosis,omitempty"`
	isBaseline  bool
	trials      []*trial
}

// Cost is what a trial of a cell takes, as it was measured while the sweep ran.
type Cost struct {
	Parameters int     `json:"parameters"`
	StepFLOPs  float64 `json:"step_flops,omitempty"`   // counted from the model
	PerSecond  float64 `json:"tokens_per_s,omitempty"` // median of the seeds
	PeakMemory int64   `json:"peak_memory,omitempty"`  // bytes, the most of the seeds
	Bytes      int64   `json:"model_bytes,omitempty"`  // of model.gguf, median
	Seconds    float64 `json:"seconds,omitempty"`      // of a trial, mean of the seeds
}

// Unfinished is a trial that is not done.
type Unfinished struct {
	Trial    string      `json:"trial"`
	Cell     string      `json:"cell"`
	Seed     uint64      `json:"seed"`
	State    sweep.State `json:"state"`
	Attempts int         `json:"attempts,omitempty"`
	Exit     *int        `json:"exit,omitempty"`
	Signal   string      `json:"signal,omitempty"`
	Error    string      `json:"error,omitempty"` // what it wrote last to standard error
	Log      string      `json:"log,omitempty"`
}

// Make compares the cells of in. It returns ErrInput, ErrBaseline or
// ErrMetric.
func Make(in Input) (*Report, error) {
	metric, err := in.metric()
	if err != nil {
		return nil, err
	}
	trials, err := in.trials()
	if err != nil {
		return nil, err
	}
	p := &in.Plan
	r := &Report{
		Schema: Schema, Name: p.Name, Created: p.Created, CreatedBy: p.CreatedBy, ReportedBy: in.Program,
		Axes: p.Axes, Metric: metric, trials: trials,
	}
	if r.Cells, err = cells(trials); err != nil {
		return nil, err
	}
	name := cmp.Or(in.Baseline, p.Baseline)
	b, err := newBaseline(name, p.Axes, r.Cells)
	if err != nil {
		return nil, err
	}
	r.Baseline = b.name
	if err := compare(r.Cells, b, metric); err != nil {
		return nil, err
	}
	for i := range trials {
		r.Counts.add(trials[i].State)
		if trials[i].State != sweep.Done {
			r.Unfinished = append(r.Unfinished, unfinished(&trials[i]))
		}
	}
	r.ran()
	r.Reproduce = reproduce(in, b)
	r.Warnings = r.warnings()
	r.Words = r.words()
	return r, nil
}

func (c *Counts) add(s sweep.State) {
	c.Planned++
	switch s {
	case sweep.Done:
		c.Done++
	case sweep.Failed:
		c.Failed++
	case sweep.Pending, sweep.Running, sweep.Interrupted:
		c.Missing++
	default: // of a later version
		c.Missing++
	}
}

func unfinished(t *trial) Unfinished {
	u := Unfinished{Trial: t.ID, Cell: t.Cell, Seed: t.Seed, State: t.State, Log: t.Log}
	if f := t.Failure; f != nil {
		u.Attempts, u.Exit, u.Signal, u.Error = f.Attempts, &f.Exit, f.Signal, f.Error
	} else {
		u.Error = t.Problem
	}
	return u
}

// ran collects what the results say of their programs and machines.
func (r *Report) ran() {
	for _, t := range r.trials {
		if t.State != sweep.Done {
			continue
		}
		addOnce(&r.Ran.Programs, t.Result.Program)
		addOnce(&r.Ran.Machines, t.Result.Host)
		addOnce(&r.Ran.Backends, t.Result.Backend)
		if n := t.Result.Threads; n > 0 && !slices.Contains(r.Ran.Threads, n) {
			r.Ran.Threads = append(r.Ran.Threads, n)
		}
	}
	slices.Sort(r.Ran.Threads)
}

func addOnce(list *[]string, s string) {
	if s != "" && !slices.Contains(*list, s) {
		*list = append(*list, s)
	}
}

// reproduce are the commands that plan, run and report again.
func reproduce(in Input, b *baseline) []string {
	dir := cmp.Or(in.Dir, "DIR")
	var list []string
	if in.Plan.Command != "" {
		list = append(list, in.Plan.Command)
	}
	last := "tern sweep report " + sweep.ShellWord(dir)
	if in.Baseline != "" {
		last += " --baseline " + sweep.ShellWord(b.name)
	}
	if in.Metric != "" {
		last += " --metric " + string(in.Metric)
	}
	return append(list, "tern sweep run "+sweep.ShellWord(dir), last)
}
