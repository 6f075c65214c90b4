package report

import (
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/ternlm/tern/sweep"
)

// Bounds of what is drawn, so that a page of any plan opens.
const (
	maxCells  = 40     // with curves
	maxThin   = 160    // lines of single seeds
	maxSeeds  = 10     // of a cell
	maxDrawn  = 32_000 // points of a chart, where that leaves its lines 50
	maxCharts = 20
)

// curves are the charts of a report, as the page's script takes them.
type curves struct {
	Cells  []curveCell `json:"cells"`
	Charts []chart     `json:"charts"`
	Note   string      `json:"-"`
}

type curveCell struct {
	Name     string  `json:"name"`
	Tokens   float64 `json:"tokens"` // of a step
	FLOPs    float64 `json:"flops"`  // of a step
	Baseline bool    `json:"baseline,omitempty"`
}

type chart struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Lines []line `json:"lines"`
}

// line is the mean of a cell, or one of its seeds.
type line struct {
	Cell    int     `json:"cell"`
	Seed    string  `json:"seed,omitempty"` // "" is the mean
	Failed  bool    `json:"failed,omitempty"`
	Steps   []int   `json:"s"`
	Seconds numbers `json:"t"`
	Values  numbers `json:"v"`
}

// numbers are written with six digits, and null for what is no number.
type numbers []float64

// MarshalJSON writes an array.
func (n numbers) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, v := range n {
		if i > 0 {
			b = append(b, ',')
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			b = append(b, "null"...)
			continue
		}
		b = strconv.AppendFloat(b, v, 'g', 6, 64)
	}
	return append(b, ']'), nil
}

// charts chooses what is drawn.
func (r *Report) charts() curves {
	var out curves
	drawn := r.drawnCells()
	perCell := min(maxSeeds, maxThin/max(1, len(drawn)))
	left := false
	names := map[string]bool{}
	for _, c := range drawn {
		cc := curveCell{Name: c.label(), FLOPs: c.Cost.StepFLOPs, Baseline: c.isBaseline}
		for _, t := range c.trials {
			if n := t.Training.Len(); n > 0 && t.Training.Steps[n-1] > 0 {
				cc.Tokens = float64(t.Training.Tokens[n-1]) / float64(t.Training.Steps[n-1])
			}
			for name := range t.Evaluation.Values {
				names[name] = true
			}
		}
		left = left || c.begun() > perCell
		out.Cells = append(out.Cells, cc)
	}
	delete(names, validLoss)
	delete(names, validBits)
	list := append([]string{validLoss, trainLoss}, inOrder(slices.Collect(maps.Keys(names)))...)
	for _, name := range list[:min(len(list), maxCharts)] {
		if ch := newChart(name, drawn, perCell); len(ch.Lines) > 0 {
			out.Charts = append(out.Charts, ch)
		}
	}
	out.Note = curveNote(len(drawn), r.cellsWithCurves(), perCell, left)
	return out
}

func curveNote(drawn, all, perCell int, left bool) string {
	s := "Strong lines are means over the seeds that are done (where none is, over those begun), at the steps that all of them have; thin lines are single seeds, dotted where the trial failed. Diagnostics show means alone. " +
		"A line has at most " + strconv.Itoa(MaxPoints) + " of the points that metrics.jsonl has. Seconds are those of training, without evaluations."
	if drawn < all {
		s += " Of " + plural(all, "cell", "cells") + " with curves the first " + strconv.Itoa(drawn) + " are drawn, a baseline among them."
	}
	if left {
		s += " Of each cell's seeds at most " + strconv.Itoa(perCell) + " have a thin line; means are over all."
	}
	return s
}

// begun counts the trials with a curve.
func (c *Cell) begun() (n int) {
	for _, t := range c.trials {
		if t.Training.Len()+t.Evaluation.Len() > 0 {
			n++
		}
	}
	return n
}

func (r *Report) cellsWithCurves() (n int) {
	for _, c := range r.Cells {
		if c.begun() > 0 {
			n++
		}
	}
	return n
}

// drawnCells are the first that have curves, and a baseline.
func (r *Report) drawnCells() []*Cell {
	var list []*Cell
	var base *Cell
	for _, c := range r.Cells {
		if c.begun() == 0 {
			continue
		}
		if c.isBaseline && base == nil {
			base = c
		}
		if len(list) < maxCells {
			list = append(list, c)
		}
	}
	if base != nil && !slices.Contains(list, base) {
		list[len(list)-1] = base
	}
	return list
}

// Names of columns.
const (
	trainLoss = "loss"
	validLoss = "valid_loss"
	validBits = "valid_bits_per_byte"
)

func (t *trial) curve(name string) *Curve {
	if name == trainLoss {
		return &t.Training
	}
	return &t.Evaluation
}

func newChart(name string, cells []*Cell, perCell int) chart {
	title, isLoss := titleOf(name), true
	switch name {
	case trainLoss:
		title = "training loss"
	case validLoss:
		title = "validation loss"
	default:
		isLoss = false
	}
	ch := chart{Name: oneLine(name, 60), Title: title}
	for i, c := range cells {
		var single []*trial
		for _, t := range c.trials {
			if t.curve(name).Values[name] != nil {
				single = append(single, t)
			}
		}
		if len(single) == 0 {
			continue
		}
		ch.add(line{Cell: i}, mean(averaged(single, name), name), name)
		for _, t := range single[:min(len(single), perCell)] {
			if isLoss && len(single) > 1 {
				ch.add(line{Cell: i, Seed: strconv.FormatUint(t.Seed, 10), Failed: t.State == sweep.Failed}, *t.curve(name), name)
			}
		}
	}
	limit := min(MaxPoints, max(50, maxDrawn/max(1, len(ch.Lines))))
	for i := range ch.Lines {
		ch.Lines[i].thin(limit)
	}
	return ch
}

// averaged are the curves of a mean.
func averaged(all []*trial, name string) []*Curve {
	var done, begun []*Curve
	for _, t := range all {
		begun = append(begun, t.curve(name))
		if t.State == sweep.Done {
			done = append(done, t.curve(name))
		}
	}
	if len(done) > 0 {
		return done
	}
	return begun
}

func (ch *chart) add(l line, c Curve, name string) {
	if c.Len() == 0 || c.Values[name] == nil {
		return
	}
	l.Steps, l.Seconds, l.Values = c.Steps, c.Seconds, c.Values[name]
	ch.Lines = append(ch.Lines, l)
}

// thin leaves at most limit points.
func (l *line) thin(limit int) {
	at := spread(len(l.Steps), limit)
	steps, seconds, values := make([]int, len(at)), make(numbers, len(at)), make(numbers, len(at))
	for to, i := range at {
		steps[to], seconds[to], values[to] = l.Steps[i], l.Seconds[i], l.Values[i]
	}
	l.Steps, l.Seconds, l.Values = steps, seconds, values
}
