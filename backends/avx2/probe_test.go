package avx2_test

import (
	"testing"
	"time"

	"github.com/ternlm/tern/backends/avx2"
)

// A probe that was optimized away, or that counts what it does not do, would
// take no time or the same time for any number of rounds.
func TestProbesTakeTimeInProportionToWhatTheyReport(t *testing.T) {
	best := func(run func()) time.Duration {
		least := time.Hour
		for range 20 {
			begin := time.Now()
			run()
			least = min(least, time.Since(begin))
		}
		return least
	}
	eachISA(t, func(t *testing.T, spec string) {
		p := avx2.ProbeOf(open(t, spec))
		for name, probe := range map[string]func(int) float64{"int8": p.Int8, "fma": p.FMA} {
			if probe(20) != 2*probe(10) {
				t.Errorf("%s: twice the rounds are not twice the operations", name)
			}
			short, long := best(func() { probe(10_000) }), best(func() { probe(100_000) })
			if ratio := float64(long) / float64(short); ratio < 4 || ratio > 25 {
				t.Errorf("%s: ten times the rounds took %.1f times the time", name, ratio)
			}
		}
		x := make([]float32, 1<<20)
		short, long := best(func() { p.Read(x[:1<<13]) }), best(func() { p.Read(x) })
		if long < 20*short {
			t.Errorf("reading 128 times as much took %v instead of %v", long, short)
		}
	})
}
