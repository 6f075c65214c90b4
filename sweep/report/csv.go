package report

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
)

// CSV writes a line for each trial of the plan. Numbers that a trial does not
// have are empty. A text that a spreadsheet would take for a formula begins
// with an apostrophe.
func (r *Report) CSV(w io.Writer) error {
	out := csv.NewWriter(w)
	head := []string{"id", "cell", "seed"}
	for _, a := range r.Axes {
		head = append(head, "axis_"+a)
	}
	head = append(head, "state", "loss", "bits_per_byte", "trained_loss", "difference", "steps", "tokens", "seconds", "tokens_per_s", "peak_memory",
		"model_bytes", "parameters", "step_flops", "attempts", "error", "log", "model_sha256", "backend", "threads", "host", "program", "finished")
	if err := out.Write(safe(head)); err != nil {
		return errors.Wrap(err, "write CSV")
	}
	base := r.differences()
	for i := range r.trials {
		t := &r.trials[i]
		line := []string{t.ID, t.Cell, strconv.FormatUint(t.Seed, 10)}
		for _, a := range r.Axes {
			line = append(line, t.Axes[a])
		}
		line = append(append(line, string(t.State)), t.csv(base[t.ID])...)
		if err := out.Write(safe(line)); err != nil {
			return errors.Wrap(err, "write CSV")
		}
	}
	out.Flush()
	return errors.Wrap(out.Error(), "write CSV")
}

// differences are those of trials to the trial of the same seed of their
// baseline, by ID.
func (r *Report) differences() map[string]string {
	metric := map[cellSeed]float64{}
	for i := range r.trials {
		if t := &r.trials[i]; t.State == sweep.Done {
			metric[cellSeed{t.Cell, t.Seed}] = r.Metric.of(t.Result)
		}
	}
	out := map[string]string{}
	for _, c := range r.Cells {
		if c.Comparison == nil || c.Comparison.With == "" {
			continue
		}
		for _, t := range c.done() {
			if base, ok := metric[cellSeed{c.Comparison.With, t.Seed}]; ok {
				out[t.ID] = decimal(r.Metric.of(t.Result) - base)
			}
		}
	}
	return out
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'g', 9, 64) }

// csv are the columns after the state.
func (t *trial) csv(difference string) []string {
	res := sweep.Result{}
	n, k := func(v float64) string { return "" }, func(v int64) string { return "" }
	finished, attempts, reason := "", "", ""
	if t.State == sweep.Done {
		res, n, k = *t.Result, decimal, func(v int64) string { return strconv.FormatInt(v, 10) }
		attempts, finished = k(int64(res.Attempts)), res.Finished.UTC().Format(time.RFC3339)
	} else if t.Failure != nil {
		u := unfinished(t)
		attempts, reason = strconv.Itoa(t.Failure.Attempts), u.reason()
	}
	return []string{
		n(res.Loss), n(res.BitsPerByte), n(res.TrainedLoss), difference, k(int64(res.Steps)), k(res.Tokens), n(res.Seconds), n(res.PerSecond), k(res.PeakMemory),
		k(res.Bytes), strconv.Itoa(t.Parameters), decimal(t.StepFLOPs), attempts, reason, t.Log, res.ModelSHA256, res.Backend, k(int64(res.Threads)), res.Host,
		res.Program, finished,
	}
}

// safe marks texts that spreadsheets would run (OWASP, CSV injection).
func safe(line []string) []string {
	for i, s := range line {
		if s == "" || !strings.ContainsRune("=+-@\t\r", rune(s[0])) {
			continue
		}
		if _, err := strconv.ParseFloat(s, 64); err != nil {
			line[i] = "'" + s
		}
	}
	return line
}
