package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/local"
)

// sweepProgress shows how far a sweep has come.
type sweepProgress struct {
	a     *app
	d     *sweep.Dir
	width int // of the terminal, 0 where there is none
	begin time.Time
	end   chan struct{}
	ended chan struct{}

	mu      sync.Mutex
	states  map[string]sweep.State
	before  map[string]float64 // share of each trial done when it began here
	work    float64            // of all trials
	earlier float64            // work done before this process
}

func (a *app) newSweepProgress(d *sweep.Dir) *sweepProgress {
	p := &sweepProgress{
		a: a, d: d, begin: time.Now(), end: make(chan struct{}), ended: make(chan struct{}),
		states: map[string]sweep.State{}, before: map[string]float64{},
	}
	p.width, _ = a.terminal()
	for _, t := range d.Plan.Trials {
		state, _, _, err := d.Status(t)
		if err != nil {
			continue // the engine says so
		}
		p.states[t.ID] = state
		p.work += trialWork(t)
		p.earlier += trialWork(t) * p.share(t, state)
	}
	go p.tick()
	return p
}

// trialWork is what a trial computes; a constant where a plan does not say.
func trialWork(t sweep.Trial) float64 { return max(1, t.StepFLOPs) * float64(max(1, t.Steps())) }

// share is the part of a trial that is done.
func (p *sweepProgress) share(t sweep.Trial, state sweep.State) float64 {
	switch state {
	case sweep.Done, sweep.Failed: // nothing is left to do
		return 1
	case sweep.Running, sweep.Interrupted:
		pr := p.d.Progress(t)
		return float64(pr.Step) / float64(max(1, pr.Steps))
	}
	return 0
}

// event notes what an engine tells.
func (p *sweepProgress) event(e local.Event) {
	p.mu.Lock()
	p.states[e.Trial.ID] = e.State
	p.mu.Unlock()
	line := ""
	switch {
	case e.State == sweep.Running && p.width == 0:
		line = fmt.Sprintf("begins %s, %s", trialName(e.Trial), plural(e.Threads, "thread"))
	case e.State == sweep.Done && p.width == 0:
		line = "done   " + trialName(e.Trial)
	case e.State == sweep.Failed:
		first, _, _ := strings.Cut(e.Failure.Error, "\n")
		line = fmt.Sprintf("failed %s: %s", trialName(e.Trial), first)
	case e.State == sweep.Interrupted && e.Again:
		line = fmt.Sprintf("ended  %s: %s; it will go on", trialName(e.Trial), endText(e.Failure))
	case e.State == sweep.Interrupted && e.Failure != nil:
		line = fmt.Sprintf("ended  %s: %s", trialName(e.Trial), endText(e.Failure))
	}
	if line == "" {
		return
	}
	if p.width > 0 {
		line = "\r\x1b[K" + line
	}
	p.a.note("%s", line)
}

// endText says how a process ended.
func endText(f *sweep.Failure) string {
	if f.Signal != "" {
		return "signal: " + f.Signal
	}
	return fmt.Sprintf("exit status %d", f.Exit)
}

// tick shows a line now and then.
func (p *sweepProgress) tick() {
	defer close(p.ended)
	every := 30 * time.Second
	if p.width > 0 {
		every = time.Second
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-p.end:
			return
		case <-t.C:
			p.show()
		}
	}
}

// show writes the line of progress.
func (p *sweepProgress) show() {
	line := p.line()
	if p.width == 0 {
		p.a.note("%s", line)
		return
	}
	if len(line) >= p.width {
		line = line[:p.width-1]
	}
	fmt.Fprintf(p.a.stderr, "\r%s\x1b[K", line)
}

// line is the counts, the share of the work, and the time that is left if the
// rest goes as what was done here.
func (p *sweepProgress) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := map[sweep.State]int{}
	var did float64
	for _, t := range p.d.Plan.Trials {
		state := p.states[t.ID]
		counts[state]++
		did += trialWork(t) * p.share(t, state)
	}
	text := fmt.Sprintf("%s | %.1f%%", stateCounts(counts, len(p.d.Plan.Trials)), 100*did/max(p.work, 1))
	if here := did - p.earlier; here > 0 {
		text += " | ETA " + duration(time.Since(p.begin).Seconds()*(p.work-did)/here)
	}
	return text
}

// done ends the display.
func (p *sweepProgress) done() {
	close(p.end)
	<-p.ended
	if p.width > 0 {
		fmt.Fprint(p.a.stderr, "\r\x1b[K")
	}
}
