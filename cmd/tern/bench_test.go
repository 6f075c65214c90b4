package main

import (
	"context"
	"testing"
	"time"

	"github.com/ternlm/tern/framework"
)

// sleeper takes a fixed time for one unit.
type sleeper struct {
	name  string
	time  time.Duration
	calls *[]string
}

func (s sleeper) Run(context.Context) (float64, error) {
	*s.calls = append(*s.calls, s.name)
	time.Sleep(s.time)
	return 1, nil
}

func (s sleeper) Close() error {
	*s.calls = append(*s.calls, "close "+s.name)
	return nil
}

func TestBenchmarkMeasuresInTurn(t *testing.T) {
	slow, fast := openTest(t, "scalar:threads=1"), openTest(t, "scalar:threads=2")
	var calls []string
	b := benchmark{name: "sleep", unit: "1/s", open: func(_ context.Context, be framework.Backend) (subject, error) {
		if be == slow {
			return sleeper{"slow", 400 * time.Millisecond, &calls}, nil
		}
		return sleeper{"fast", 100 * time.Millisecond, &calls}, nil
	}}
	r, err := b.measure(context.Background(), slow, fast, 2)
	if err != nil {
		t.Fatal(err)
	}
	if r.Rounds != 2 || r.Ratio < 2.5 || r.Ratio > 6 {
		t.Errorf("%d rounds, ratio %.2f; want 2 and about 4", r.Rounds, r.Ratio)
	}
	// One run each to warm up, then both in each round, then both are closed.
	turns := 0
	for i, c := range calls[1:] {
		if c != calls[i] {
			turns++
		}
	}
	if calls[0] != "slow" || turns != 7 {
		t.Errorf("not in turn: %q", calls)
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
