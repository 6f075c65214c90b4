package local

import (
	"context"
	"runtime"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/filelock"
	"github.com/ternlm/tern/sweep"
)

// Options say how a sweep runs.
type Options struct {
	// Jobs is the most trials at once; 0 is one for each processor.
	Jobs int
	// Threads is what each trial gets; 0 shares the processors out among those
	// that run.
	Threads int
	// Memory is what all trials together may take, in bytes, by their estimates; 0
	// is no limit. A trial that is larger runs alone.
	Memory int64
	// Base is what a process takes beside its trial's estimate, in bytes.
	Base int64
	// Retry runs failed trials again.
	Retry bool
	// Kills is how often a trial may be killed, or interrupted by others, before
	// this run leaves it; 0 is 3. Its estimate is doubled each time: the system may
	// have killed it for its memory.
	Kills int
	// Command returns how to train a trial; its Stop is set here.
	Command func(t sweep.Trial, threads int) sweep.Command
	// Stop ends the sweep when it is closed: trials save first.
	Stop <-chan struct{}
	// Observe is told what happens, from one goroutine; nil is nobody.
	Observe func(Event)
}

// Event is a trial that begins or ends.
type Event struct {
	Trial   sweep.Trial
	State   sweep.State // Running, or what it came to
	Threads int
	Failure *sweep.Failure
	Again   bool // it was interrupted, and will be tried again
}

// Summary is what a run came to.
type Summary struct {
	States  map[sweep.State]int // of all trials
	Stopped bool                // before all were tried
}

// job is a trial to run.
type job struct {
	trial sweep.Trial
	kills int
	need  int64
}

// ended is a job whose process ended.
type ended struct {
	job     *job
	threads int
	outcome sweep.Outcome
	err     error
}

// pool is the state of Run.
type pool struct {
	d       *sweep.Dir
	o       Options
	queue   []*job
	running int
	memory  int64 // taken, by estimate
	results chan ended
	states  map[string]sweep.State
	broken  error // why nothing is started any more
}

// Run runs the trials that are not done, those that were interrupted from where
// they were. A trial that fails stops no other. An error is of the directory or
// the program. The caller is the plan's scheduler (sweep.Dir.Lock).
func Run(ctx context.Context, d *sweep.Dir, o Options) (Summary, error) {
	p := &pool{d: d, o: o, results: make(chan ended), states: map[string]sweep.State{}}
	if p.o.Jobs <= 0 {
		p.o.Jobs = runtime.GOMAXPROCS(0)
	}
	if p.o.Kills <= 0 {
		p.o.Kills = 3
	}
	if err := p.fill(); err != nil {
		return Summary{}, err
	}
	for {
		p.admit(ctx)
		if p.running == 0 {
			return p.summary(), p.broken
		}
		p.settle(ctx, <-p.results)
	}
}

// fill queues what is to be done.
func (p *pool) fill() error {
	for _, t := range p.d.Plan.Trials {
		state, _, _, err := p.d.Status(t)
		if err != nil {
			return err
		}
		p.states[t.ID] = state
		if state == sweep.Done || state == sweep.Failed && !p.o.Retry {
			continue
		}
		p.queue = append(p.queue, &job{trial: t, need: t.Memory + p.o.Base})
	}
	return nil
}

// stopped reports whether the sweep is to end.
func (p *pool) stopped(ctx context.Context) bool {
	select {
	case <-p.o.Stop:
		return true
	case <-ctx.Done():
		return true
	default:
		return p.broken != nil
	}
}

// admit starts the trials that there is room for, in the order of the plan; one
// that is too large waits, and lets smaller ones pass.
func (p *pool) admit(ctx context.Context) {
	for i := 0; i < len(p.queue) && p.running < p.o.Jobs && !p.stopped(ctx); {
		j := p.queue[i]
		if p.running > 0 && p.o.Memory > 0 && p.memory+j.need > p.o.Memory {
			i++
			continue
		}
		p.queue = append(p.queue[:i], p.queue[i+1:]...)
		p.start(ctx, j)
	}
}

// threads shares the processors out among as many trials like j as can run.
func (p *pool) threads(j *job) int {
	if p.o.Threads > 0 {
		return p.o.Threads
	}
	at := min(p.o.Jobs, p.running+len(p.queue)+1)
	if p.o.Memory > 0 && j.need > 0 {
		at = min(at, int(max(1, p.o.Memory/j.need)))
	}
	return max(1, runtime.GOMAXPROCS(0)/at)
}

// start runs j in a goroutine.
func (p *pool) start(ctx context.Context, j *job) {
	threads := p.threads(j)
	p.running++
	p.memory += j.need
	p.tell(Event{Trial: j.trial, State: sweep.Running, Threads: threads})
	c := p.o.Command(j.trial, threads)
	c.Stop = p.o.Stop
	go func() {
		e := ended{job: j, threads: threads}
		e.outcome, e.err = p.execute(ctx, j.trial, c)
		p.results <- e
	}()
}

// between is the time from one look at a trial that another process trains to the
// next.
const between = 200 * time.Millisecond

// execute runs a trial. One that another process trains, such as one that a
// killed scheduler left behind, is waited for.
func (p *pool) execute(ctx context.Context, t sweep.Trial, c sweep.Command) (sweep.Outcome, error) {
	for {
		o, err := p.d.Execute(ctx, t, c)
		if !errors.Is(err, filelock.ErrHeld) {
			return o, err
		}
		select {
		case <-c.Stop:
			return sweep.Outcome{State: sweep.Running}, nil
		case <-ctx.Done():
			return sweep.Outcome{State: sweep.Running}, nil
		case <-time.After(between):
		}
	}
}

// settle takes note of a job that ended.
func (p *pool) settle(ctx context.Context, e ended) {
	j := e.job
	p.running--
	p.memory -= j.need
	if e.err != nil {
		p.broken = errors.CombineErrors(p.broken, e.err)
		return
	}
	p.states[j.trial.ID] = e.outcome.State
	event := Event{Trial: j.trial, State: e.outcome.State, Threads: e.threads, Failure: e.outcome.Failure}
	if e.outcome.State == sweep.Interrupted {
		j.kills++
		event.Again = j.kills < p.o.Kills && !p.stopped(ctx)
	}
	if event.Again {
		j.need *= 2
		p.queue = append(p.queue, j)
	}
	p.tell(event)
}

func (p *pool) tell(e Event) {
	if p.o.Observe != nil {
		p.o.Observe(e)
	}
}

func (p *pool) summary() Summary {
	s := Summary{States: map[sweep.State]int{}, Stopped: len(p.queue) > 0}
	for _, state := range p.states {
		s.States[state]++
	}
	select {
	case <-p.o.Stop:
		s.Stopped = s.Stopped || s.States[sweep.Interrupted] > 0
	default:
	}
	return s
}
