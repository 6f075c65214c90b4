package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/ternlm/tern/sweep/stats"
)

// table is what Markdown and HTML both show.
type table struct {
	Title string
	Note  string
	Head  []string
	Left  int // columns at the left that are text
	Rows  []row
}

type row struct {
	Texts []string
	Class string    // for HTML: baseline, lower, higher, failed
	Plot  *interval // of a comparison
}

// interval is a difference with its interval, as it is drawn.
type interval struct{ mean, low, high float64 }

// Rows of tables, so that a page of any plan opens. Trials that are not done
// are all there.
const (
	maxRows      = 2000
	maxDepthRows = 200
)

// bound cuts the rows of a table, and says so.
func (t *table) bound(cells []*Cell, limit int) []*Cell {
	if len(cells) <= limit {
		return cells
	}
	t.Note += fmt.Sprintf(" The first %d of %d cells are shown; report.json has all.", limit, len(cells))
	return cells[:limit]
}

// tables are those of a report, in order.
func (r *Report) tables() []table {
	all := []table{r.results(), r.costs()}
	if t := r.diagnoses(); len(t.Rows) > 0 {
		all = append(all, t)
	}
	all = append(all, r.byDepth()...)
	if t := r.unfinishedTable(); len(t.Rows) > 0 {
		all = append(all, t)
	}
	return all
}

// verdictColumn is where the verdicts are.
const verdictColumn = "verdict"

// results is the comparison of the cells.
func (r *Report) results() table {
	t := table{
		Title: "Results", Left: 1,
		Head: []string{"cell", "trials", "loss", "bits per byte", "difference", "95 % interval", "p (Holm)", verdictColumn, "p (t)", "p (sign flip)", "pairs"},
		Note: "Mean ± standard deviation over seeds, nats a token and bits a byte of the validation text, of the exported file read back. " +
			"Difference of the " + r.Metric.title() + ": cell minus baseline (" + oneLine(r.Baseline, maxName) + "), paired by seed.",
	}
	for _, c := range t.bound(r.Cells, maxRows) {
		t.Rows = append(t.Rows, r.resultRow(c))
	}
	return t
}

func (r *Report) resultRow(c *Cell) row {
	texts := []string{c.label(), c.Counts.String(), meanSD(c.Loss), meanSD(c.BitsPerByte)}
	switch {
	case c.isBaseline:
		return row{append(texts, "baseline", none, none, none, none, none, none), "baseline", nil}
	case c.Comparison.With == "":
		return row{append(texts, none, none, none, string(TooSmall), none, none, "no baseline cell"), "", nil}
	}
	cmp := c.Comparison
	if cmp.Paired == nil {
		return row{append(texts, none, none, none, string(cmp.Verdict), none, none, cmp.pairs()), "", nil}
	}
	p := cmp.Paired
	at := &interval{p.Mean, p.Mean, p.Mean}
	span, pt, holm, flip := none, none, none, none
	if p.T != nil {
		at.low, at.high = p.T.Low, p.T.High
		span, pt = formatDifference(p.T.Low)+" to "+formatDifference(p.T.High), formatP(p.T.P)
	}
	if cmp.Holm != nil {
		holm, flip = formatP(*cmp.Holm), formatP(p.SignFlip.P)
	}
	class := map[Verdict]string{Lower: "lower", Higher: "higher"}[cmp.Verdict]
	return row{append(texts, formatDifference(p.Mean), span, holm, string(cmp.Verdict), pt, flip, cmp.pairs()), class, at}
}

// String is such as "3 of 5 (1 failed, 1 missing)".
func (c Counts) String() string {
	s := fmt.Sprintf("%d of %d", c.Done, c.Planned)
	switch {
	case c.Failed > 0 && c.Missing > 0:
		return s + fmt.Sprintf(" (%d failed, %d missing)", c.Failed, c.Missing)
	case c.Failed > 0:
		return s + fmt.Sprintf(" (%d failed)", c.Failed)
	case c.Missing > 0:
		return s + fmt.Sprintf(" (%d missing)", c.Missing)
	}
	return s
}

// pairs is the number of pairs, and the seeds that are none.
func (c *Comparison) pairs() string {
	s := "0"
	if c.Paired != nil {
		s = strconv.Itoa(c.Paired.N)
	}
	if len(c.NotDone) > 0 {
		s += "; without seed " + seedList(c.NotDone)
	}
	if len(c.NotDoneBaseline) > 0 {
		s += "; baseline without seed " + seedList(c.NotDoneBaseline)
	}
	return s
}

func meanSD(s *stats.Summary) string {
	switch {
	case s == nil:
		return none
	case s.N == 1:
		return formatLoss(s.Mean)
	}
	return formatLoss(s.Mean) + " ± " + formatLoss(s.SD)
}

func (r *Report) costs() table {
	t := table{
		Title: "Costs", Left: 1,
		Head: []string{"cell", "parameters", "model.gguf", "FLOPs a step", "tok/s", "peak memory", "time"},
		Note: "Tokens a second: median over seeds, and of the process's resident memory the most; time: mean of a trial, all its processes together. As they were while the sweep ran, perhaps beside other trials. FLOPs are counted from the model.",
	}
	for _, c := range t.bound(r.Cells, maxRows) {
		class := ""
		if c.isBaseline {
			class = "baseline"
		}
		t.Rows = append(t.Rows, row{Class: class, Texts: []string{
			c.label(), orNone(int64(c.Cost.Parameters), thousands), orNone(c.Cost.Bytes, formatBytes), orNone(c.Cost.StepFLOPs, formatFLOPs),
			orNone(c.Cost.PerSecond, formatNumber), orNone(c.Cost.PeakMemory, formatBytes), orNone(c.Cost.Seconds, formatSeconds),
		}})
	}
	return t
}

// diagnoses are the numbers that there is one of for a model.
func (r *Report) diagnoses() table {
	names := map[string]bool{}
	for _, c := range r.Cells {
		if c.Diagnosis != nil {
			for name := range c.Diagnosis.Mean {
				names[name] = true
			}
		}
	}
	columns := inOrder(slices.Collect(maps.Keys(names)))
	t := table{
		Title: "Diagnostics", Left: 1, Head: []string{"cell"},
		Note: "At the last evaluation: mean over seeds, in parentheses the largest where seeds differ. " + diagnosticNote,
	}
	for _, name := range columns {
		t.Head = append(t.Head, titleOf(name))
	}
	for _, c := range t.bound(r.Cells, maxRows) {
		if c.Diagnosis == nil {
			continue
		}
		texts := []string{c.label()}
		for _, name := range columns {
			s := none
			if v, ok := c.Diagnosis.Mean[name]; ok {
				s = formatNumber(v)
				if m := formatNumber(c.Diagnosis.Max[name]); m != s {
					s += " (" + m + ")"
				}
			}
			texts = append(texts, s)
		}
		t.Rows = append(t.Rows, row{Texts: texts})
	}
	return t
}

// diagnosticNote says what the numbers are (diagnose.Report).
const diagnosticNote = "Gain is the largest absolute row or column sum of the product of the mixing matrices (1 where each is doubly stochastic): of all of them, a mean over tokens, and the largest at any depth and token. " +
	"Violation is how far a row or column sum of any mixing matrix is from 1, or an element below 0."

// depthColumns is how many depths a table shows.
const depthColumns = 16

// byDepth has a table for each list of numbers by depth.
func (r *Report) byDepth() []table {
	longest := map[string]int{}
	for _, c := range r.Cells {
		if c.Diagnosis != nil {
			for name, list := range c.Diagnosis.Depths {
				longest[name] = max(longest[name], len(list))
			}
		}
	}
	var all []table
	for _, name := range inOrder(slices.Collect(maps.Keys(longest))) {
		at := spread(longest[name], depthColumns)
		t := table{Title: capital(titleOf(name)) + " by depth", Left: 1, Head: []string{"cell"}, Note: "Mean over seeds at the last evaluation, after each sub-layer, the first on the left."}
		if len(at) < longest[name] {
			t.Note += fmt.Sprintf(" %d of %d are shown; report.json has all.", len(at), longest[name])
		}
		for _, i := range at {
			t.Head = append(t.Head, strconv.Itoa(i+1))
		}
		for _, c := range t.bound(r.Cells, maxDepthRows) {
			if c.Diagnosis == nil || c.Diagnosis.Depths[name] == nil {
				continue
			}
			texts := []string{c.label()}
			for _, i := range at {
				s := none
				if list := c.Diagnosis.Depths[name]; i < len(list) {
					s = strconv.FormatFloat(list[i], 'g', 3, 64)
				}
				texts = append(texts, s)
			}
			t.Rows = append(t.Rows, row{Texts: texts})
		}
		all = append(all, t)
	}
	return all
}

// spread returns at most limit of the places 0 to n-1, evenly, both ends among
// them.
func spread(n, limit int) []int {
	var at []int
	for i := range min(n, limit) {
		if n <= limit {
			at = append(at, i)
		} else {
			at = append(at, i*(n-1)/(limit-1))
		}
	}
	return at
}

func (r *Report) unfinishedTable() table {
	t := table{
		Title: "Trials that are not done", Left: 6,
		Head: []string{"cell", "seed", "state", "attempts", "error", "log"},
		Note: "tern sweep run goes on with those that are pending or were interrupted; with --retry also with those that failed.",
	}
	for _, u := range r.Unfinished {
		attempts := none
		if u.Attempts > 0 {
			attempts = strconv.Itoa(u.Attempts)
		}
		class := ""
		if u.State == "failed" {
			class = "failed"
		}
		cell := (&Cell{Name: u.Cell}).label()
		t.Rows = append(t.Rows, row{Class: class, Texts: []string{cell, strconv.FormatUint(u.Seed, 10), oneLine(string(u.State), 20), attempts, u.reason(), oneLine(u.Log, 200)}})
	}
	return t
}

// reason is the error in a line.
func (u *Unfinished) reason() string {
	s := oneLine(lastLine(u.Error), 300)
	switch {
	case u.Signal != "" && s != "":
		return "ended by signal: " + oneLine(u.Signal, 20) + "; last: " + s
	case u.Signal != "":
		return "ended by signal: " + oneLine(u.Signal, 20)
	case s == "" && u.Exit != nil:
		return "exit status " + strconv.Itoa(*u.Exit)
	case s == "":
		return none
	}
	return s
}
