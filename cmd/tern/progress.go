package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ternlm/tern/train"
)

// progress shows the events of a training: one line that is written over on a
// terminal, else a line now and then.
type progress struct {
	w     io.Writer
	width int           // of the terminal, 0 where there is none
	every time.Duration // between plain lines without an evaluation
	lr    float64       // of matrices, at factor 1
	json  *json.Encoder // events go here too, nil for none

	last  train.Event // the latest of what only some events hold
	rate  float64
	shown time.Time
}

// event shows e.
func (p *progress) event(e train.Event) {
	if p.json != nil {
		_ = p.json.Encode(e) // a reader that went away stops nothing
	}
	if e.Valid != nil {
		p.last.Valid = e.Valid
	}
	if e.Diagnosis != nil {
		p.last.Diagnosis = e.Diagnosis
	}
	if p.rate == 0 {
		p.rate = e.PerSecond
	}
	p.rate = 0.8*p.rate + 0.2*e.PerSecond
	if p.width > 0 {
		line := p.line(e)
		if len(line) >= p.width {
			line = line[:p.width-1]
		}
		fmt.Fprintf(p.w, "\r%s\x1b[K", line)
		return
	}
	if e.Valid != nil || e.Step == 1 || time.Since(p.shown) >= p.every {
		fmt.Fprintln(p.w, p.line(e))
		p.shown = time.Now()
	}
}

// done ends the line.
func (p *progress) done() {
	if p.width > 0 {
		fmt.Fprintln(p.w)
	}
}

// line is the text for an event.
func (p *progress) line(e train.Event) string {
	parts := []string{
		fmt.Sprintf("step %d/%d %.1f%%", e.Step, e.Steps, 100*float64(e.Step)/float64(e.Steps)),
		fmt.Sprintf("loss %.3f", e.Loss),
	}
	if v := p.last.Valid; v != nil {
		parts = append(parts, fmt.Sprintf("val %.3f", v.Loss))
	}
	parts = append(parts, "lr "+scientific(p.lr*e.Factor), perSecond(p.rate)+" tok/s")
	if d := p.last.Diagnosis; d != nil {
		if d.CompositeGain > 0 {
			format := "gain %.3f"
			if d.CompositeGain >= 1000 {
				format = "gain %.3g"
			}
			parts = append(parts, fmt.Sprintf(format, d.CompositeGain))
		}
		if d.Violations > 0 {
			parts = append(parts, fmt.Sprintf("%d mixings not doubly stochastic", d.Violations))
		}
		if d.Zeros > 0 {
			parts = append(parts, fmt.Sprintf("zeros %.0f%%", 100*d.Zeros))
		}
	}
	if e.Step < e.Steps {
		parts = append(parts, "ETA "+duration(e.ETA))
	}
	return strings.Join(parts, " | ")
}

// scientific is x with two digits and a short exponent: 3.0e-4.
func scientific(x float64) string {
	s := fmt.Sprintf("%.1e", x)
	return strings.Replace(strings.Replace(s, "e-0", "e-", 1), "e+0", "e+", 1)
}

// perSecond is a rate with a unit prefix: 13.5k.
func perSecond(x float64) string {
	switch {
	case x >= 1e6:
		return fmt.Sprintf("%.1fM", x/1e6)
	case x >= 1e3:
		return fmt.Sprintf("%.1fk", x/1e3)
	}
	return fmt.Sprintf("%.0f", x)
}

// duration is a time in seconds in at most two units: 9h31m, 2m05s, 8s.
func duration(seconds float64) string {
	s := int64(max(0, min(seconds+0.5, 1e12)))
	switch {
	case s >= 86400:
		return fmt.Sprintf("%dd%02dh", s/86400, s%86400/3600)
	case s >= 3600:
		return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
	case s >= 60:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	return fmt.Sprintf("%ds", s)
}

// thousands writes n with commas.
func thousands[N ~int | ~int64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size writes a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
