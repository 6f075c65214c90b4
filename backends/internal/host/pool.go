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
	asleep  []atomic.Bool
	wake    []chan struct{}
	done    chan struct{}
	stopped sync.WaitGroup
	close   sync.Once
	*shared
}

// shared is what the workers read and write of a loop: one cache line, which
// takes a tenth of a microsecond from core to core, and a short loop needs it
// three times.
type shared struct {
	state atomic.Uint64 // pieces that nobody has taken, plus inside for each worker at work
	loop  Loop          // written while the state is 0, its Grain as split gives it
	_     [32]byte      // for a size that the allocator aligns to 64 bytes
}

const (
	// inside is what a worker adds to the state while it runs pieces.
	inside = 1 << 32
	// left masks the pieces that are left in the state.
	left = inside - 1
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
	p := &Pool{workers: workers, done: make(chan struct{}), asleep: make([]atomic.Bool, workers-1), wake: make([]chan struct{}, workers-1), shared: new(shared)}
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
	for p.await(i) {
		if first, ok := p.take(inside); ok {
			p.share(first)
			p.state.Add(^uint64(inside - 1))
		}
	}
}

// await returns true when there are pieces, false when the pool is closed.
func (p *Pool) await(i int) bool {
	for n := 0; p.state.Load()&left == 0; n++ {
		if n < spins {
			continue
		}
		n = 0
		p.asleep[i].Store(true)
		if p.state.Load()&left == 0 {
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

// take takes a piece, if any is left, and adds so much to the state with it: a
// worker that has not taken its first piece is not inside and may not read the
// loop. The pieces are numbered down to 1.
func (p *Pool) take(add uint64) (piece int, ok bool) {
	for {
		v := p.state.Load()
		if v&left == 0 {
			return 0, false
		}
		if p.state.CompareAndSwap(v, v-1+add) {
			return int(v & left), true
		}
	}
}

// share runs a piece, and others until none is left.
func (p *Pool) share(piece int) {
	l := p.loop
	pieces := (l.Items + l.Grain - 1) / l.Grain
	for ok := true; ok; piece, ok = p.take(0) {
		lo := (pieces - piece) * l.Grain
		l.Do(lo, min(lo+l.Grain, l.Items))
	}
}

// split is the number of items to hand out together. A grain of several items
// says that they are short: the workers then get equal shares of a short loop, one
// each, and pieces several times the grain of a long one, so that handing out costs
// little beside a piece. Items with a grain of one are handed out one by one,
// but so that the workers get equal shares of a few.
func (p *Pool) split(l Loop) int {
	pieces := (l.Items + l.Grain - 1) / l.Grain
	switch {
	case l.Grain > 1 && pieces <= 16*p.workers:
		pieces = min(pieces, p.workers)
	case l.Grain > 1:
		pieces = min(pieces/4, 32*p.workers)
	case pieces < 4*p.workers:
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
	pieces := (l.Items + l.Grain - 1) / l.Grain
	p.loop = l
	p.state.Store(uint64(pieces - 1)) // the first is the caller's
	for i := range p.asleep {
		if p.asleep[i].Load() {
			select {
			case p.wake[i] <- struct{}{}:
			default:
			}
		}
	}
	p.share(pieces)
	for n := 1; p.state.Load() != 0; n++ {
		if n%1024 == 0 { // a worker inside may have lost its processor to us
			runtime.Gosched()
		}
	}
}
