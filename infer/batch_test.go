package infer_test

import (
	"context"
	"slices"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/internal/memory"
)

// likeliest is the first of the largest.
func likeliest(logits []float32) int32 {
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	return int32(best)
}

func TestSequencesOfABatchAreThoseAlone(t *testing.T) {
	const steps = 12
	ctx := context.Background()
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		m := must(infer.Load(ctx, be, weights(t, be, base)))
		defer m.Close()
		for _, n := range []int{1, 3, 17} {
			b := must(m.NewBatch(ctx, n))
			for round := range 2 { // the second time over what the first left
				b.Reset()
				tokens := sequence(n, base.Vocab)
				alone := make([]*infer.Session, n)
				for i := range alone {
					alone[i] = must(m.NewSession())
				}
				for s := range steps {
					next := must(b.Feed(ctx, tokens))
					for i, a := range alone {
						if want := likeliest(must(a.Feed(ctx, tokens[i:i+1]))); next[i] != want {
							t.Fatalf("%d sequences, round %d, step %d: sequence %d goes on with %d, alone with %d", n, round, s, i, next[i], want)
						}
					}
					tokens = slices.Clone(next)
				}
				for _, a := range alone {
					must(0, a.Close())
				}
			}
			if b.Len() != steps {
				t.Errorf("%d tokens fed, not %d", b.Len(), steps)
			}
			must(0, b.Close())
		}
	})
}

func TestABatchRefusesWhatItCannotHold(t *testing.T) {
	ctx := context.Background()
	be := must(framework.Backends.Open("scalar"))
	defer be.Close()
	c := base
	c.Context = 9
	m := must(infer.Load(ctx, be, weights(t, be, c)))
	defer m.Close()
	for _, n := range []int{-1, 0, infer.MaxBatch + 1} {
		if _, err := m.NewBatch(ctx, n); !errors.Is(err, framework.ErrInput) {
			t.Errorf("%d sequences: error %v", n, err)
		}
	}
	b := must(m.NewBatch(ctx, 2))
	defer b.Close()
	if _, err := b.Feed(ctx, []int32{1}); !errors.Is(err, framework.ErrInput) {
		t.Errorf("one token for two sequences: error %v", err)
	}
	for range m.Config.Context {
		must(b.Feed(ctx, []int32{1, 2}))
	}
	if _, err := b.Feed(ctx, []int32{1, 2}); !errors.Is(err, infer.ErrContext) {
		t.Errorf("beyond the context: error %v", err)
	}
}

func TestABatchOnAFullDeviceIsRefused(t *testing.T) {
	ctx := context.Background()
	be := &full{Backend: must(framework.Backends.Open("scalar")), free: 1 << 40}
	defer be.Close()
	m := must(infer.Load(ctx, be, weights(t, be, base)))
	defer m.Close()
	be.free = 1 << 20
	if _, err := m.NewBatch(ctx, 64); !errors.Is(err, memory.ErrNotEnough) {
		t.Errorf("error %v", err)
	}
}

// full is a backend with memory of its own.
type full struct {
	framework.Backend
	free int64
}

func (f *full) Memory() (free, total int64, err error) { return f.free, 1 << 40, nil }
