package suite

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Entry is one case of a suite, not yet run.
type Entry struct {
	Mode string // the part of the suite it belongs to, such as "ops"
	Name string // unique within the mode
	Rule string // what must hold, one sentence
	Fix  string // where to look when it does not
	// Run checks the rule. The detail says what was measured, for people.
	Run func(ctx context.Context) (detail string, err error)
}

// Case is the outcome of an entry.
type Case struct {
	Mode    string        `json:"mode,omitempty"`
	Name    string        `json:"name"`
	Rule    string        `json:"rule"`
	Err     error         `json:"-"`
	Detail  string        `json:"detail,omitempty"` // what was measured, or the text of Err
	Fix     string        `json:"fix,omitempty"`    // where to look, set when the case failed
	Skipped string        `json:"skipped,omitempty"`
	Took    time.Duration `json:"took_ns"`
}

// ID is the mode and the name, as "ops/matmul".
func (c Case) ID() string {
	if c.Mode == "" {
		return c.Name
	}
	return c.Mode + "/" + c.Name
}

// Status is "ok", "FAIL" or "skip".
func (c Case) Status() string {
	switch {
	case c.Skipped != "":
		return "skip"
	case c.Err != nil:
		return "FAIL"
	}
	return "ok"
}

// MarshalJSON adds the id and the status to the fields of c.
func (c Case) MarshalJSON() ([]byte, error) {
	type plain Case
	return json.Marshal(struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		plain
	}{c.ID(), c.Status(), plain(c)})
}

// Report is the outcome of a suite.
type Report struct {
	Cases []Case `json:"cases"`
}

// Failed returns the cases whose rule does not hold.
func (r Report) Failed() []Case {
	return slices.DeleteFunc(slices.Clone(r.Cases), func(c Case) bool { return c.Status() != "FAIL" })
}

// OK reports whether something was checked and nothing failed.
func (r Report) OK() bool { return len(r.Cases) > 0 && len(r.Failed()) == 0 }

// Took is the time that all cases took.
func (r Report) Took() time.Duration {
	var d time.Duration
	for _, c := range r.Cases {
		d += c.Took
	}
	return d
}

// Write prints a table of the cases, the failures spelled out below it.
func (r Report) Write(w io.Writer) error {
	var buf strings.Builder
	tw := tabwriter.NewWriter(&buf, 0, 0, 2, ' ', 0)
	skipped := 0
	for _, c := range r.Cases {
		note := c.Detail
		switch c.Status() {
		case "skip":
			note = c.Skipped
			skipped++
		case "FAIL":
			note = "see below"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", c.Status(), c.ID(), c.Took.Round(time.Millisecond), note)
	}
	_ = tw.Flush() // a strings.Builder does not fail
	for _, c := range r.Failed() {
		fmt.Fprintf(&buf, "\nFAIL %s\n  rule: %s\n  seen: %s\n  look: %s\n", c.ID(), c.Rule, strings.ReplaceAll(c.Detail, "\n", "\n        "), c.Fix)
	}
	fmt.Fprintf(&buf, "\n%d cases, %d failed, %d skipped, %s\n", len(r.Cases), len(r.Failed()), skipped, r.Took().Round(time.Millisecond))
	_, err := io.WriteString(w, buf.String())
	return err
}

// Check runs the entries in order. skip maps an id, a name or a mode to the
// reason why it is not run. A canceled ctx fails what is left.
func Check(ctx context.Context, entries []Entry, skip map[string]string) Report {
	var r Report
	for _, e := range entries {
		r.Cases = append(r.Cases, One(ctx, e, skip))
	}
	return r
}

// One runs a single entry. A panic is a failure like any other.
func One(ctx context.Context, e Entry, skip map[string]string) (c Case) {
	c = Case{Mode: e.Mode, Name: e.Name, Rule: e.Rule}
	for _, key := range []string{c.ID(), e.Name, e.Mode} {
		if why, ok := skip[key]; ok && key != "" {
			c.Skipped = why
			if why == "" {
				c.Skipped = "skipped by " + key
			}
			return c
		}
	}
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			c.Err = fmt.Errorf("panic: %v", p)
		}
		c.Took = time.Since(start)
		if c.Err != nil {
			c.Detail, c.Fix = c.Err.Error(), e.Fix
		}
	}()
	if c.Err = ctx.Err(); c.Err == nil {
		c.Detail, c.Err = e.Run(ctx)
	}
	return c
}
