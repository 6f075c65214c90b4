//go:build linux

package simd

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// threadTime is the processor time of the calling thread: other programs on the machine do not count.
func threadTime() time.Duration {
	var t syscall.Timespec
	const clock = 3 // CLOCK_THREAD_CPUTIME_ID
	if _, _, e := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&t)), 0); e != 0 {
		panic(e)
	}
	return time.Duration(t.Nano())
}

// peakRate measures FMAPeak, in operations a nanosecond (GFLOP/s).
func peakRate() float64 {
	const iters = 1 << 17
	start := threadTime()
	FMAPeak(iters)
	return 384 * iters / float64((threadTime() - start).Nanoseconds())
}

// timePhases runs the phases, the items of each dealt to workers goroutines.
func timePhases(phases []Phase, workers int) time.Duration {
	start := time.Now()
	for _, p := range phases {
		if workers == 1 {
			p.Do(0, p.Items)
			continue
		}
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() { p.Do(w*p.Items/workers, (w+1)*p.Items/workers) })
		}
		wg.Wait()
	}
	return time.Since(start)
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkGemm reports, beside the peak measured in the same rounds: the rate of one thread, its share of that peak,
// and how much faster two threads are.
func BenchmarkGemm(b *testing.B) {
	kinds := []struct {
		name                   string
		transA, transB, packed bool
	}{{"NN", false, false, false}, {"NT", false, true, false}, {"TN", true, false, false}, {"packed", false, true, true}}
	for _, s := range [][3]int{{1024, 2048, 768}, {2048, 192, 192}, {4096, 512, 192}, {4096, 192, 512}, {2048, 512, 512}, {512, 512, 4096}, {192, 512, 2048}, {64, 2048, 768}, {4, 2048, 768}, {1, 2048, 768}} {
		for _, kind := range kinds {
			b.Run(fmt.Sprintf("%dx%dx%d/%s", s[0], s[1], s[2], kind.name), func(b *testing.B) {
				benchGemm(b, Gemm{M: s[0], N: s[1], K: s[2], TransA: kind.transA, TransB: kind.transB, Packed: kind.packed, Workers: 2})
			})
		}
	}
}

func benchGemm(b *testing.B, g Gemm) {
	r := rand.New(rand.NewPCG(1, 1))
	bb := randFloats(r, max(g.K*g.N, PackedBLen(g.N, g.K)), 0)
	phases := g.Phases(randFloats(r, g.M*g.K, 0), bb, make([]float32, g.M*g.N), make([]byte, g.ScratchBytes()))
	flops := 2 * float64(g.M) * float64(g.N) * float64(g.K)
	reps := int(1 + 2e8/flops)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var peak, one, share, two []float64
	for b.Loop() {
		for range 7 {
			p := peakRate()
			var t1, t2 time.Duration
			cpu := threadTime()
			for range reps {
				t1 += timePhases(phases, 1)
			}
			cpu = threadTime() - cpu
			for range reps {
				t2 += timePhases(phases, 2)
			}
			p = (p + peakRate()) / 2
			rate := flops * float64(reps) / float64(cpu.Nanoseconds())
			peak, one, share = append(peak, p), append(one, rate), append(share, rate/p)
			two = append(two, float64(t1)/float64(t2))
		}
	}
	b.ReportMetric(median(one), "GFLOP/s")
	b.ReportMetric(median(peak), "peak")
	b.ReportMetric(median(share), "of-peak")
	b.ReportMetric(slices.Max(two), "best-two-threads")
	b.ReportMetric(0, "ns/op")
}
