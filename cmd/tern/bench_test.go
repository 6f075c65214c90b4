package main

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
)

func TestFiguresAreMediansOfTheRoundsThatWereMeasured(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		rounds []float64
		want   figure
	}{
		"none":         {nil, figure{}},
		"all missed":   {[]float64{nan, nan}, figure{}},
		"one":          {[]float64{3}, figure{3, 3, 3, 1}},
		"odd":          {[]float64{9, 1, 2}, figure{2, 1, 9, 3}},
		"even":         {[]float64{4, 1, 3, 2}, figure{2, 1, 4, 4}},
		"some missed":  {[]float64{nan, 5, 1, nan, 7}, figure{5, 1, 7, 3}},
		"all the same": {[]float64{2, 2, 2, 2}, figure{2, 2, 2, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(c.rounds)
			if got := summarize(c.rounds); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
			if len(before) > 0 && !math.IsNaN(before[0]) && c.rounds[0] != before[0] {
				t.Error("the rounds were moved")
			}
		})
	}
}

// The machine has a slow and a fast state: the ratio of medians would be 10.
func TestRatiosAreTakenByRound(t *testing.T) {
	ours, theirs := []float64{20, 20, 2, math.NaN()}, []float64{10, 1, 1, 5}
	got := ratios(ours, theirs)
	if want := []float64{2, 20, 2}; !slices.Equal(got[:3], want) || !math.IsNaN(got[3]) {
		t.Errorf("%v, want %v and a missed round", got, want)
	}
	if m := summarize(got); m.Median != 2 || m.Rounds != 3 {
		t.Errorf("median %v", m)
	}
}

func TestRoundsMeasureInTurn(t *testing.T) {
	var calls []string
	next := 0.0
	one := func(name string, most int) contender {
		return contender{name, most, func(context.Context) (float64, error) {
			calls = append(calls, name)
			next++
			return next, nil
		}}
	}
	done := 0
	rates, err := inRounds(context.Background(), []contender{one("a", 0), one("b", 0), one("s", 2)}, 3, func() { done++ })
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b", "s", "s", "b", "a", "a", "b"}; !slices.Equal(calls, want) {
		t.Errorf("order %v, want %v", calls, want)
	}
	if done != 3 {
		t.Errorf("%d rounds reported, want 3", done)
	}
	if want := []float64{1, 6, 7}; !slices.Equal(rates[0], want) {
		t.Errorf("rates of a: %v, want %v", rates[0], want)
	}
	if r := rates[2]; r[0] != 3 || r[1] != 4 || !math.IsNaN(r[2]) {
		t.Errorf("rates of s: %v, want 3, 4 and a missed round", r)
	}
}

func TestRoundsEndAtAnErrorOrAnInterrupt(t *testing.T) {
	broken := errors.New("broken")
	fails := contender{"fragile", 0, func(context.Context) (float64, error) { return 0, broken }}
	if _, err := inRounds(context.Background(), []contender{fails}, 1, func() {}); !errors.Is(err, broken) || err.Error() != "fragile: broken" {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := 0
	stops := contender{"stops", 0, func(context.Context) (float64, error) { ran++; cancel(); return 1, nil }}
	if _, err := inRounds(ctx, []contender{stops}, 5, func() {}); !errors.Is(err, context.Canceled) || ran != 1 {
		t.Errorf("error %v after %d", err, ran)
	}
}

// sleeper takes a fixed time for so many units.
type sleeper struct {
	time  time.Duration
	units float64
}

func (s sleeper) Run(context.Context) (float64, error) { time.Sleep(s.time); return s.units, nil }
func (s sleeper) Close() error                         { return nil }

func TestARateIsUnitsASecond(t *testing.T) {
	rate, err := rateOf(context.Background(), sleeper{2 * time.Millisecond, 10}, 30*time.Millisecond)
	if err != nil || rate > 5000 || rate < 500 { // 5000 at best; sleeping may take longer
		t.Errorf("rate %v, error %v, want somewhat under 5000", rate, err)
	}
	begin := time.Now()
	if _, err := rateOf(context.Background(), sleeper{time.Millisecond, 1}, 30*time.Millisecond); err != nil || time.Since(begin) < 30*time.Millisecond {
		t.Errorf("measured for %v, error %v", time.Since(begin), err)
	}
}

func TestTheFloorIsTheLargerOfArithmeticAndMemory(t *testing.T) {
	w := work{Int8: 200e9, F32: 50e9, Bytes: 30e9}
	for name, c := range map[string]struct {
		limits map[string]float64
		want   float64
		bound  string
	}{
		"arithmetic":  {map[string]float64{limitInt8: 100, limitFMA: 50, limitRead: 30}, 3, "arithmetic"},
		"memory":      {map[string]float64{limitInt8: 100, limitFMA: 50, limitRead: 6}, 5, "memory"},
		"only memory": {map[string]float64{limitRead: 30}, 1, "memory"},
		"nothing":     {nil, 0, "arithmetic"},
	} {
		if f := w.floor(c.limits); f.Seconds != c.want || f.Bound != c.bound || f.work != w {
			t.Errorf("%s: %+v, want %v s, %s", name, f, c.want, c.bound)
		}
	}
}

func TestRowsHoldTheRatiosOfTheirRounds(t *testing.T) {
	nan := math.NaN()
	c := benchCase{units: 2, work: work{Int8: 4e9, Bytes: 1e9}, scalar: &scalarCase{factor: 0.5, note: "half"}, part: "kernels"}
	k := course{c: c, lanes: []laneOf{
		{ours: 0, scalar: 2, limits: map[string]int{limitInt8: 1, limitRead: 4}, names: []string{limitInt8, limitRead}, peers: []int{3}},
		{ours: 5, scalar: -1, peers: []int{3}},
	}}
	rates := [][]float64{{100, 10, 50}, {400, 40, 100}, {20, nan, 20}, {200, 5, 25}, {1e6, 1e6, 1e6}, {150, 30, 75}}
	l := &lab{peers: []peer{{name: "other", part: "train"}, {name: "peer", part: "kernels"}}}
	var one, two benchRow
	k.fill(&one, l, rates, 0)
	k.fill(&two, l, rates, 1)
	// 2 ops a unit: 200, 20 and 100 of 400, 40 and 100.
	if len(one.Limits) != 2 || one.Limits[0].Share != 0.5 || one.Share != 0.5 || one.Above != 2 {
		t.Errorf("limits %+v, share %v, above %v, want 0.5, 0.5 and 2", one.Limits, one.Share, one.Above)
	}
	if one.Rate.Median != 50 || one.Seconds != 0.04 || one.Scaling != 1 || two.Scaling != 1.5 {
		t.Errorf("rate %v, %v s, scaling %v and %v", one.Rate, one.Seconds, one.Scaling, two.Scaling)
	}
	if s := one.Scalar; s == nil || s.Rate != (figure{10, 10, 10, 2}) || s.Ratio != 5 || s.Scaled != "half" || two.Scalar != nil {
		t.Errorf("scalar %+v and %+v", s, two.Scalar)
	}
	if len(one.Peers) != 1 || one.Peers[0] != (benchPeer{"peer", figure{25, 5, 200, 3}, 2}) {
		t.Errorf("peers %+v", one.Peers)
	}
}

func openTest(t *testing.T, spec string) framework.Backend {
	t.Helper()
	be, err := openBackend(spec, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := be.Close(); err != nil {
			t.Error(err)
		}
	})
	return be
}

func TestAutoIsAvx2WhereItRuns(t *testing.T) {
	be := openTest(t, "auto")
	want := "avx2"
	if fast, err := framework.Backends.Open("avx2"); err != nil {
		want = "scalar"
	} else if err := fast.Close(); err != nil {
		t.Fatal(err)
	}
	if be.Name() != want {
		t.Errorf("auto is %s, want %s", be.Name(), want)
	}
}
