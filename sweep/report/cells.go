package report

import (
	"encoding/json"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/stats"
)

// cells gathers trials in the order of the plan and summarizes each cell.
func cells(trials []trial) ([]*Cell, error) {
	var all []*Cell
	byName := map[string]*Cell{}
	for i := range trials {
		t := &trials[i]
		c := byName[t.Cell]
		if c == nil {
			c = &Cell{Name: t.Cell, Axes: t.Axes, Cost: Cost{Parameters: t.Parameters, StepFLOPs: t.StepFLOPs}}
			byName[t.Cell] = c
			all = append(all, c)
		}
		c.trials = append(c.trials, t)
		c.Counts.add(t.State)
	}
	for _, c := range all {
		if err := c.summarize(); err != nil {
			return nil, errors.Wrapf(err, "cell %q", c.Name)
		}
	}
	return all, nil
}

// done are the trials with a result.
func (c *Cell) done() []*trial {
	var list []*trial
	for _, t := range c.trials {
		if t.State == sweep.Done {
			list = append(list, t)
		}
	}
	return list
}

func (c *Cell) summarize() error {
	done := c.done()
	if len(done) == 0 {
		return nil
	}
	over := func(f func(*sweep.Result) float64) (stats.Summary, error) {
		x := make([]float64, len(done))
		for i, t := range done {
			x[i] = f(t.Result)
		}
		return stats.Summarize(x)
	}
	loss, err1 := over(Loss.of)
	bits, err2 := over(BitsPerByte.of)
	rate, err3 := over(func(r *sweep.Result) float64 { return r.PerSecond })
	bytes, err4 := over(func(r *sweep.Result) float64 { return float64(r.Bytes) })
	seconds, err5 := over(func(r *sweep.Result) float64 { return r.Seconds })
	memory, err6 := over(func(r *sweep.Result) float64 { return float64(r.PeakMemory) })
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return err
	}
	c.Loss, c.BitsPerByte = &loss, &bits
	c.Cost.PerSecond, c.Cost.Seconds = rate.Median, seconds.Mean
	c.Cost.Bytes, c.Cost.PeakMemory = int64(bytes.Median), int64(memory.Max)
	var last []*Diagnosis
	for _, t := range done {
		if d := t.diagnosis(); d != nil {
			last = append(last, d)
		}
	}
	c.Diagnosis = diagnosed(last)
	return nil
}

// diagnosis is the last one of a trial that is done, nil where there is none.
func (t *trial) diagnosis() *Diagnosis {
	var d Diagnosis
	if json.Unmarshal(t.Result.Diagnosis, &d) == nil && len(d.Values)+len(d.Depths) > 0 {
		return &d
	}
	return t.Last
}
