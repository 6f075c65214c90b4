package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ternlm/tern/diagnose"
	"github.com/ternlm/tern/train"
)

// event is the one of DESIGN's example line.
func exampleEvent() train.Event {
	return train.Event{
		Metrics: train.Metrics{Step: 1200, Loss: 3.4119, Factor: 1}, Steps: 57635, PerSecond: 13_512, ETA: 9*3600 + 31*60,
		Valid: &train.Score{Loss: 3.39}, Diagnosis: &train.Diagnosis{Report: diagnose.Report{CompositeGain: 1}, Zeros: 0.34},
	}
}

func TestProgressLine(t *testing.T) {
	var b bytes.Buffer
	p := &progress{w: &b, lr: 3e-4}
	p.event(exampleEvent())
	want := "step 1200/57635 2.1% | loss 3.412 | val 3.390 | lr 3.0e-4 | 13.5k tok/s | gain 1.000 | zeros 34% | ETA 9h31m\n"
	if b.String() != want {
		t.Errorf("line\n%q, want\n%q", b.String(), want)
	}
}

func TestProgressRewritesOneLineOnATerminal(t *testing.T) {
	var b bytes.Buffer
	p := &progress{w: &b, lr: 3e-4, width: 40}
	p.event(exampleEvent())
	e := exampleEvent()
	e.Step, e.Valid, e.Diagnosis = 1201, nil, nil
	p.event(e)
	p.done()
	lines := strings.Split(b.String(), "\r")
	if len(lines) != 3 || strings.Count(b.String(), "\n") != 1 {
		t.Fatalf("not one line that is written over: %q", b.String())
	}
	for _, l := range lines[1:] {
		if text := strings.TrimSuffix(strings.TrimSuffix(l, "\n"), "\x1b[K"); len(text) >= 40 {
			t.Errorf("line of %d characters on a terminal of 40: %q", len(text), text)
		}
	}
}

func TestProgressKeepsPlainLinesFew(t *testing.T) {
	var b bytes.Buffer
	p := &progress{w: &b, every: time.Hour}
	for step := 1; step <= 100; step++ {
		e := train.Event{Metrics: train.Metrics{Step: step, Loss: 1}, Steps: 100}
		if step%50 == 0 {
			e.Valid = &train.Score{Loss: 2}
		}
		p.event(e)
	}
	if n := strings.Count(b.String(), "\n"); n != 3 { // the first, and two evaluations
		t.Errorf("%d lines, want 3:\n%s", n, b.String())
	}
}

func TestNumbersForPeople(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{duration(8), "8s"},
		{duration(125), "2m05s"},
		{duration(34260), "9h31m"},
		{duration(200000), "2d07h"},
		{duration(-1), "0s"},
		{perSecond(950), "950"},
		{perSecond(13512), "13.5k"},
		{perSecond(2.5e6), "2.5M"},
		{scientific(3e-4), "3.0e-4"},
		{scientific(0), "0.0e+0"},
		{scientific(1e-12), "1.0e-12"},
		{thousands(162148824), "162,148,824"},
		{thousands(-1234), "-1,234"},
		{thousands(999), "999"},
		{size(2968864), "2.8 MiB"},
		{size(880), "880 bytes"},
		{plural(1, "thread"), "1 thread"},
		{plural(2, "thread"), "2 threads"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestIntervals(t *testing.T) {
	for _, c := range []struct{ every, steps, part, most, want int }{
		{0, 400, 4, 1000, 100},
		{0, 57635, 4, 1000, 1000},
		{0, 3, 4, 1000, 1},
		{7, 400, 4, 1000, 7},
		{-1, 400, 4, 1000, 0},
	} {
		if got := interval(c.every, c.steps, c.part, c.most); got != c.want {
			t.Errorf("interval(%d, %d, %d, %d) is %d, want %d", c.every, c.steps, c.part, c.most, got, c.want)
		}
	}
}
