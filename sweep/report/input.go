package report

import (
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/sweep"
)

// ErrInput is returned for outcomes that do not fit their plan.
var ErrInput = errors.New("outcomes that do not fit the plan")

// ErrBaseline is returned for a baseline that names no cell.
var ErrBaseline = errors.New("no such baseline")

// ErrMetric is returned for a metric that is none.
var ErrMetric = errors.New("no such metric")

// Input is what a report is made of.
type Input struct {
	Dir      string // of the plan, as the user named it
	Plan     sweep.Plan
	Outcomes []Outcome
	// Baseline is a cell, or values of some axes ("residual=standard"): then a
	// cell is compared with the one that has these values and else its own.
	// Empty is the plan's, or else the first cell.
	Baseline string
	Metric   Metric // zero is Loss
	Program  string // and version that makes the report
}

// Outcome is what became of a trial. A trial of the plan without one is
// pending.
type Outcome struct {
	Trial   string // ID
	State   sweep.State
	Result  *sweep.Result  // of a trial that is done
	Failure *sweep.Failure // of one that failed or was interrupted
	Log     string         // path of what it wrote to standard error
	// Training has "loss" (of a step) and "grad_norm", Evaluation "valid_loss",
	// "valid_bits_per_byte" and the diagnoses, a depth's numbers by the last of
	// them.
	Training, Evaluation Curve
	Last                 *Diagnosis // the last one of the metrics, where Result has none
	Problem              string     // why the curves are not all there
}

// Metric is what cells are compared by.
type Metric string

// Metrics of the validation text, of the exported file read back.
const (
	Loss        Metric = "loss"          // nats a token
	BitsPerByte Metric = "bits_per_byte" // of the text: also between tokenizers
)

// Metrics are all of them.
var Metrics = []string{string(Loss), string(BitsPerByte)}

// of is the metric of a result.
func (m Metric) of(r *sweep.Result) float64 {
	if m == BitsPerByte {
		return r.BitsPerByte
	}
	return r.Loss
}

// title is the metric in words.
func (m Metric) title() string {
	if m == BitsPerByte {
		return "validation bits per byte"
	}
	return "validation loss"
}

// trial is a trial of the plan with what became of it.
type trial struct {
	*sweep.Trial
	Outcome
}

// trials pairs the plan's trials with their outcomes.
func (in *Input) trials() ([]trial, error) {
	at := make(map[string]int, len(in.Plan.Trials))
	all := make([]trial, len(in.Plan.Trials))
	seen := make(map[cellSeed]bool, len(all))
	for i := range in.Plan.Trials {
		t := &in.Plan.Trials[i]
		key := cellSeed{t.Cell, t.Seed}
		if _, twice := at[t.ID]; twice || seen[key] {
			return nil, errors.Wrapf(ErrInput, "trial %s, %q with seed %d, is planned twice", t.ID, t.Cell, t.Seed)
		}
		at[t.ID], seen[key] = i, true
		all[i] = trial{t, Outcome{Trial: t.ID, State: sweep.Pending}}
	}
	if len(all) == 0 {
		return nil, errors.Wrap(ErrInput, "the plan has no trials")
	}
	for _, o := range in.Outcomes {
		i, planned := at[o.Trial]
		if !planned {
			return nil, errors.Wrapf(ErrInput, "trial %q is not of the plan", o.Trial)
		}
		if err := o.check(); err != nil {
			return nil, errors.Wrapf(err, "trial %s", o.Trial)
		}
		all[i].Outcome = o
	}
	return all, nil
}

type cellSeed struct {
	cell string
	seed uint64
}

func (o *Outcome) check() error {
	if o.State != sweep.Done {
		return nil
	}
	if o.Result == nil {
		return errors.Wrap(ErrInput, "done, but without a result")
	}
	for name, v := range map[string]float64{
		"loss": o.Result.Loss, "bits_per_byte": o.Result.BitsPerByte, "trained_loss": o.Result.TrainedLoss,
		"seconds": o.Result.Seconds, "tokens_per_s": o.Result.PerSecond,
	} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return errors.Wrapf(ErrInput, "its %s is %v", name, v)
		}
	}
	return nil
}

// metric is the one chosen.
func (in *Input) metric() (Metric, error) {
	switch in.Metric {
	case "":
		return Loss, nil
	case Loss, BitsPerByte:
		return in.Metric, nil
	}
	return "", errors.WithHint(errors.Wrapf(ErrMetric, "%q", in.Metric), framework.Suggest(string(in.Metric), Metrics))
}
