package host

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Pool runs loops on a fixed number of workers, the caller being one of them.
// Between loops a worker spins for a while, then sleeps: a run of many short
// loops never pays for waking it.
type Pool struct {
	workers int
	mu      sync.Mutex // held while a loop runs on the workers
	loop    Loop
	next    atomic.Int64 // first item not handed out
	pending atomic.Int64 // workers still in the loop
	turn    atomic.Uint64
	asleep  []atomic.Bool
	wake    []chan struct{}
	done    chan struct{}
	stopped sync.WaitGroup
	close   sync.Once
}

// spins is how often a worker looks for work before it sleeps: some tens of
// microseconds, longer than the serial gaps within a step.
const spins = 1 << 14

// NewPool starts workers-1 goroutines; 0 means GOMAXPROCS.
func NewPool(workers int) *Pool {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	p := &Pool{workers: workers, done: make(chan struct{}), asleep: make([]atomic.Bool, workers-1), wake: make([]chan struct{}, workers-1)}
	p.stopped.Add(workers - 1)
	for i := range workers - 1 {
		p.wake[i] = make(chan struct{}, 1)
		go p.work(i)
	}
	return p
}

// Workers returns the number of workers.
func (p *Pool) Workers() int { return p.workers }

// Close stops the workers. Run must not be called afterwards.
func (p *Pool) Close() {
	p.close.Do(func() { close(p.done) })
	p.stopped.Wait()
}

func (p *Pool) work(i int) {
	defer p.stopped.Done()
	seen := uint64(0)
	for {
		for n := 0; p.turn.Load() == seen; n++ {
			if n < spins {
				continue
			}
			p.asleep[i].Store(true)
			if p.turn.Load() == seen {
				select {
				case <-p.wake[i]:
				case <-p.done:
					return
				}
			}
			p.asleep[i].Store(false)
			n = 0
		}
		seen = p.turn.Load()
		p.share()
		p.pending.Add(-1)
	}
}

// share runs pieces of the loop until none is left.
func (p *Pool) share() {
	items, grain := p.loop.Items, p.loop.Grain
	for {
		lo := int(p.next.Add(int64(grain))) - grain
		if lo >= items {
			return
		}
		p.loop.Do(lo, min(lo+grain, items))
	}
}

// Run executes l and returns when every item is done. A loop of one piece, or
// one that finds the workers busy, runs on the caller.
func (p *Pool) Run(l Loop) {
	if l.Grain <= 0 || l.Items <= l.Grain || p.workers == 1 || !p.mu.TryLock() {
		if l.Items > 0 {
			l.Do(0, l.Items)
		}
		return
	}
	defer p.mu.Unlock()
	p.loop = l
	p.next.Store(0)
	p.pending.Store(int64(p.workers - 1))
	p.turn.Add(1)
	for i := range p.asleep {
		if p.asleep[i].Load() {
			select {
			case p.wake[i] <- struct{}{}:
			default:
			}
		}
	}
	p.share()
	for n := 0; p.pending.Load() > 0; n++ {
		if n%1024 == 1023 { // the worker may have lost its processor to us
			runtime.Gosched()
		}
	}
}
