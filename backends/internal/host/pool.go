package host

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Pool runs loops on a fixed number of workers, the caller being one of them.
// Between loops a worker spins for a while, then sleeps: a run of many short
// loops does not pay for waking it. The caller waits only for workers that have
// entered the loop, so one that the system has put aside costs nothing.
type Pool struct {
	workers int
	mu      sync.Mutex // held while a loop runs on the workers
	loop    Loop       // written while the gate is shut and nobody is inside, its Grain as split gives it
	next    atomic.Int64
	gate    atomic.Int64 // open, plus the number of workers inside
	turn    atomic.Uint64
	asleep  []atomic.Bool
	wake    []chan struct{}
	done    chan struct{}
	stopped sync.WaitGroup
	close   sync.Once
}

const (
	// open is the bit of the gate that lets workers in.
	open = 1 << 32
	// spins is how often a worker looks for work before it sleeps: some 400
	// microseconds, longer than the serial gaps within a step and than what a
	// program does between two tokens.
	spins = 1 << 19
)

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
	for seen := uint64(0); p.await(i, seen); {
		seen = p.turn.Load()
		if p.enter() {
			p.share()
			p.gate.Add(-1)
		}
	}
}

// await returns true at the next turn, false when the pool is closed.
func (p *Pool) await(i int, seen uint64) bool {
	for n := 0; p.turn.Load() == seen; n++ {
		if n < spins {
			continue
		}
		n = 0
		p.asleep[i].Store(true)
		if p.turn.Load() == seen {
			select {
			case <-p.wake[i]:
			case <-p.done:
				return false
			}
		}
		p.asleep[i].Store(false)
	}
	return true
}

// enter joins the present loop, unless it is over.
func (p *Pool) enter() bool {
	for {
		v := p.gate.Load()
		if v&open == 0 {
			return false
		}
		if p.gate.CompareAndSwap(v, v+1) {
			return true
		}
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

// split is the number of items to hand out together: about as many as the
// loop asks for, but so that the workers get equal shares of a short loop.
func (p *Pool) split(l Loop) int {
	pieces := (l.Items + l.Grain - 1) / l.Grain
	if pieces < 4*p.workers {
		pieces = (pieces + p.workers - 1) / p.workers * p.workers
	}
	return (l.Items + pieces - 1) / pieces
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
	l.Grain = p.split(l)
	p.loop = l
	p.next.Store(0)
	p.gate.Store(open)
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
	p.gate.And(^int64(open))
	for n := 1; p.gate.Load() != 0; n++ {
		if n%1024 == 0 { // a worker inside may have lost its processor to us
			runtime.Gosched()
		}
	}
}
