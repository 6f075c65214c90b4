package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

// table is the result.
type table struct {
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Quick   bool      `json:"quick"` // the numbers mean nothing
	Device  string    `json:"device"`
	Driver  string    `json:"driver"`
	Program string    `json:"program"`
	Rows    []row     `json:"rows"`
	Parts   []took    `json:"parts"`
	Profile string    `json:"-"` // tables of what nodes took, as Markdown
}

// took is how long a part took.
type took struct {
	Part    string  `json:"part"`
	Seconds float64 `json:"seconds"`
}

// row is one line.
type row struct {
	Metric string   `json:"metric"`
	Value  string   `json:"value"`
	Number *float64 `json:"number,omitempty"` // of the value, in Unit
	Unit   string   `json:"unit,omitempty"`
	Goal   string   `json:"goal,omitempty"`
	Status status   `json:"status"`
}

// nats is the unit of losses.
const nats = "nats"

// status of a row.
type status string

const (
	pass status = "pass"
	fail status = "fail"
	note status = "-" // nothing is wanted of it
)

// goal is what is wanted of a number.
type goal struct {
	want   float64
	beyond []float64 // what would be better still
	less   bool      // smaller is better
}

// atLeast is the goal of a rate.
func atLeast(want float64, beyond ...float64) goal { return goal{want: want, beyond: beyond} }

// atMost is the goal of a size or a distance.
func atMost(want float64) goal { return goal{want: want, less: true} }

func (g goal) met(v float64) bool {
	if math.IsNaN(v) {
		return false
	}
	if g.less {
		return v <= g.want
	}
	return v >= g.want
}

func (g goal) String() string {
	sign := "at least "
	if g.less {
		sign = "at most "
	}
	s := sign + short(g.want)
	for i, b := range g.beyond {
		s += map[bool]string{true: ", beyond ", false: " and "}[i == 0] + short(b)
	}
	return s
}

// measured adds a number with its goal. Speeds and sizes of a quick check are held
// to none; losses are.
func (t *table) measured(metric string, v float64, unit string, g goal) {
	r := row{Metric: metric, Value: strings.TrimSpace(short(v) + " " + unit), Unit: unit, Goal: strings.TrimSpace(g.String() + " " + unit), Status: fail}
	if !math.IsNaN(v) && !math.IsInf(v, 0) {
		r.Number = &v
	}
	switch {
	case t.Quick && unit != nats && r.Number != nil:
		r.Status = note
	case g.met(v):
		r.Status = pass
	}
	t.Rows = append(t.Rows, r)
}

// told adds a line of which nothing is wanted.
func (t *table) told(metric, value string) {
	t.Rows = append(t.Rows, row{Metric: metric, Value: value, Status: note})
}

// checked adds what is right or wrong.
func (t *table) checked(metric, value, goal string, ok bool) {
	r := row{Metric: metric, Value: value, Goal: goal, Status: fail}
	if ok {
		r.Status = pass
	}
	t.Rows = append(t.Rows, r)
}

// fail adds what could not be done.
func (t *table) fail(metric, why string) {
	t.Rows = append(t.Rows, row{Metric: metric, Value: why, Status: fail})
}

// ok reports whether nothing failed.
func (t *table) ok() bool {
	for _, r := range t.Rows {
		if r.Status == fail {
			return false
		}
	}
	return len(t.Rows) > 0
}

// short has four digits, and none of them after the point from 100 on.
func short(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v), math.IsInf(v, 0):
		return fmt.Sprint(v)
	case a >= 100:
		return thousands(fmt.Sprintf("%.0f", v))
	case a >= 1 || a == 0:
		return strings.TrimSuffix(fmt.Sprintf("%.2f", v), ".00")
	}
	return fmt.Sprintf("%.2g", v)
}

// thousands puts commas into the digits of a number.
func thousands(digits string) string {
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// markdown is the table for people, and for docs/gpu.md.
func (t *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; %s; %s; %s, %.0f s\n\n", orUnknown(t.Device), orUnknown(t.Driver), orUnknown(t.Program), t.Started.Format("2006-01-02"), t.Seconds)
	if t.Quick {
		b.WriteString("With tiny sizes: the numbers mean nothing.\n\n")
	}
	b.WriteString("| | measured | wanted | |\n|---|---|---|---|\n")
	clean := strings.NewReplacer("|", "\\|", "\n", " ").Replace
	for _, r := range t.Rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", clean(r.Metric), clean(r.Value), clean(r.Goal), r.Status)
	}
	var took []string
	for _, p := range t.Parts {
		took = append(took, fmt.Sprintf("%s %.0f s", p.Part, p.Seconds))
	}
	fmt.Fprintf(&b, "\nTime: %s.\n", strings.Join(took, ", "))
	if t.Profile != "" {
		fmt.Fprintf(&b, "\nWhat nodes take with random weights, each between two events:\n\n%s", t.Profile)
	}
	return b.String()
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// write writes the table to files in dir and to w.
func (t *table) write(dir string, w io.Writer) error {
	md := t.markdown()
	js, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return errors.Wrap(err, "table.json")
	}
	for name, text := range map[string]string{"table.md": md, "table.json": string(js) + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	_, err = io.WriteString(w, md)
	return err
}
