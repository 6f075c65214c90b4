package host

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestEveryItemRunsOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 8} {
		p := NewPool(workers)
		for _, items := range []int{0, 1, 2, 7, 64, 1000} {
			for _, grain := range []int{0, 1, 3, 64, 5000} {
				count := make([]atomic.Int32, items)
				p.Run(Loop{Items: items, Grain: grain, Do: func(lo, hi int) {
					for i := lo; i < hi; i++ {
						count[i].Add(1)
					}
				}})
				for i := range count {
					if n := count[i].Load(); n != 1 {
						t.Fatalf("%d workers, grain %d: item %d of %d ran %d times", workers, grain, i, items, n)
					}
				}
			}
		}
		p.Close()
	}
}

func TestLoopsFollowOneAnother(t *testing.T) {
	p := NewPool(4)
	defer p.Close()
	x := make([]int, 1000)
	for round := range 2000 {
		p.Run(Loop{Items: len(x), Grain: 10, Do: func(lo, hi int) {
			for i := lo; i < hi; i++ {
				x[i]++ // a race, and a wrong count, if loops overlapped
			}
		}})
		if x[round%len(x)] != round+1 {
			t.Fatalf("round %d: count %d", round, x[round%len(x)])
		}
	}
}

func TestSleepingWorkersWake(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	for range 5 {
		time.Sleep(20 * time.Millisecond) // longer than workers spin
		var n atomic.Int64
		p.Run(Loop{Items: 100, Grain: 1, Do: func(lo, hi int) { n.Add(int64(hi - lo)) }})
		if n.Load() != 100 {
			t.Fatalf("%d of 100 items ran", n.Load())
		}
	}
}

// Runs that meet share the pool: one has the workers, others run alone.
func TestRunsMayMeet(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 300 {
				x := make([]int, 100)
				p.Run(Loop{Items: 100, Grain: 5, Do: func(lo, hi int) {
					for i := lo; i < hi; i++ {
						x[i] = i
					}
				}})
				if !slices.IsSorted(x) || x[99] != 99 {
					t.Error("items are missing")
				}
			}
		})
	}
	wg.Wait()
}

func TestCloseStopsTheWorkers(t *testing.T) {
	before := runtime.NumGoroutine()
	p := NewPool(5)
	p.Run(Loop{Items: 10, Grain: 1, Do: func(int, int) {}})
	p.Close()
	p.Close() // again does no harm
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func TestALoopAllocatesNothing(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	l := Loop{Items: 64, Grain: 1, Do: func(int, int) {}}
	if n := testing.AllocsPerRun(200, func() { p.Run(l) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEmptyLoop(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run(map[int]string{1: "1 worker", 2: "2 workers"}[workers], func(b *testing.B) {
			p := NewPool(workers)
			defer p.Close()
			l := Loop{Items: 2, Grain: 1, Do: func(int, int) {}}
			for b.Loop() {
				p.Run(l)
			}
		})
	}
}

func TestShortLoopsAreSharedEqually(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	for _, c := range []struct{ items, grain, want int }{
		{48, 21, 24},       // three pieces would leave one worker with two
		{12, 6, 6},         // one each
		{100, 4, 50},       // one each: handing out more costs more than it evens out
		{7, 1, 1},          // no more pieces than items
		{1000, 100, 500},   // short
		{8000, 100, 400},   // long: pieces of four grains
		{80000, 100, 1250}, // and at most 32 a worker
		{1000, 1, 1},
	} {
		if got := p.split(Loop{Items: c.items, Grain: c.grain}); got != c.want {
			t.Errorf("%d items by %d: pieces of %d, want %d", c.items, c.grain, got, c.want)
		}
	}
}
