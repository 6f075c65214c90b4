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

// peakRate measures FMAPeak or FMAPeak512, in operations a nanosecond (GFLOP/s).
func peakRate(isa ISA) float64 {
	const iters = 1 << 17
	start := threadTime()
	ops := 384.0
	if isa == AVX512 {
		ops = 768
		FMAPeak512(iters)
	} else {
		FMAPeak(iters)
	}
	return ops * iters / float64((threadTime() - start).Nanoseconds())
}

// benchISA runs f with every instruction set.
func benchISA(b *testing.B, f func(b *testing.B, isa ISA)) {
	for _, isa := range []ISA{AVX2, AVX512} {
		b.Run("isa="+isa.String(), func(b *testing.B) {
			needISA(b, isa)
			f(b, isa)
		})
	}
}

// timePhases runs the phases, the items of each dealt to workers, and returns the processor time of the longest share of
// each: what the run takes when nothing else runs on the machine.
func timePhases(phases []Phase, workers int) time.Duration {
	var total time.Duration
	for _, p := range phases {
		var wg sync.WaitGroup
		times := make([]time.Duration, workers)
		for w := range workers {
			wg.Go(func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				start := threadTime()
				p.Do(w*p.Items/workers, (w+1)*p.Items/workers)
				times[w] = threadTime() - start
			})
		}
		wg.Wait()
		total += slices.Max(times)
	}
	return total
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
				benchISA(b, func(b *testing.B, isa ISA) {
					benchGemm(b, Gemm{M: s[0], N: s[1], K: s[2], TransA: kind.transA, TransB: kind.transB, Packed: kind.packed, Workers: 2, ISA: isa})
				})
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
			p := peakRate(g.ISA)
			var t1, t2 time.Duration
			for range reps {
				t1 += timePhases(phases, 1)
				t2 += timePhases(phases, 2)
			}
			p = (p + peakRate(g.ISA)) / 2
			rate := flops * float64(reps) / float64(t1.Nanoseconds())
			peak, one, share = append(peak, p), append(one, rate), append(share, rate/p)
			two = append(two, float64(t1)/float64(t2))
		}
	}
	b.ReportMetric(median(one), "GFLOP/s")
	b.ReportMetric(median(peak), "peak")
	b.ReportMetric(median(share), "of-peak")
	b.ReportMetric(median(two), "two-threads")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkAttention reports the rates of the forward and the backward pass, counting the causal half only: 4 operations
// for each column seen, each of D, going forward, and 10 (five products) going back.
func BenchmarkAttention(b *testing.B) {
	for _, a := range []Attention{
		{B: 8, T: 256, S: 256, H: 8, KV: 8, D: 32},
		{B: 8, T: 256, S: 256, H: 8, KV: 2, D: 32},
		{B: 16, T: 256, S: 256, H: 4, KV: 4, D: 64},
		{B: 16, T: 256, S: 256, H: 4, KV: 2, D: 64},
		{B: 1, T: 2048, S: 2048, H: 4, KV: 4, D: 128},
		{B: 1, T: 1, S: 512, H: 12, KV: 4, D: 64},
	} {
		b.Run(fmt.Sprintf("B%dT%dS%dH%dKV%dD%d", a.B, a.T, a.S, a.H, a.KV, a.D), func(b *testing.B) {
			benchISA(b, func(b *testing.B, isa ISA) {
				a.ISA = isa
				benchAttention(b, a)
			})
		})
	}
}

func benchAttention(b *testing.B, a Attention) {
	a.Workers = 2
	o := newAttnOperands(rand.New(rand.NewPCG(1, 1)), a, a.S-a.T)
	buf := func(n int) []float32 { return make([]float32, n) }
	forward := a.Phases(o.q, Rows{F32: o.k}, Rows{F32: o.v}, o.pos, buf(len(o.q)), make([]byte, a.ScratchBytes()))
	back := a.GradPhases(o.q, o.k, o.v, o.pos, o.dout, buf(len(o.q)), buf(len(o.k)), buf(len(o.k)), make([]byte, a.GradScratchBytes()))
	columns := float64(a.T)*float64(a.S-a.T) + float64(a.T)*float64(a.T+1)/2
	flops := 4 * columns * float64(a.D*a.H*a.B)
	reps := int(1 + 1e8/flops)
	var peak, fwd, bwd, share, shareBack, two, twoBack []float64
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	timed := func(p []Phase) (one, both time.Duration) {
		for range reps {
			one += timePhases(p, 1)
			both += timePhases(p, 2)
		}
		return one, both
	}
	for b.Loop() {
		for range 7 {
			p := peakRate(a.ISA)
			one, both := timed(forward)
			oneBack, bothBack := timed(back)
			p = (p + peakRate(a.ISA)) / 2
			f, g := flops*float64(reps)/float64(one), 2.5*flops*float64(reps)/float64(oneBack)
			peak, fwd, bwd = append(peak, p), append(fwd, f), append(bwd, g)
			share, shareBack = append(share, f/p), append(shareBack, g/p)
			two, twoBack = append(two, float64(one)/float64(both)), append(twoBack, float64(oneBack)/float64(bothBack))
		}
	}
	b.ReportMetric(median(fwd), "GFLOP/s")
	b.ReportMetric(median(bwd), "back-GFLOP/s")
	b.ReportMetric(median(peak), "peak")
	b.ReportMetric(median(share), "of-peak")
	b.ReportMetric(median(shareBack), "back-of-peak")
	b.ReportMetric(median(two), "two-threads")
	b.ReportMetric(median(twoBack), "back-two-threads")
	b.ReportMetric(0, "ns/op")
}
