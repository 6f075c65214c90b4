package cuda

import (
	"context"
	"crypto/sha256"
	"math"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

// course is a short training of a small model.
type course struct {
	loss []float64
	sum  [sha256.Size]byte // of all states at its end
}

// small is a model and a recipe whose values are large enough for bf16, and for
// every kernel of a real one: groups of 128, streams, shared key heads.
func small() (model.Config, train.Recipe) {
	c := model.Config{
		Tokenizer: "gpt2:512", Vocab: 512, Dim: 128, Layers: 2, Heads: 4, KVHeads: 2, FFN: 256, Context: 64,
		RoPETheta: 10000, NormEps: 1e-6, Quant: "ternary:group=128", Residual: "mhclite:streams=2", Head: "ternary",
	}
	r := train.Recipe{
		Steps: 20, Batch: 2, Accum: 1, Window: 32, Seed: 1, Optimizer: "muon",
		MatrixLR: 0.02, HeadLR: 0.004, OtherLR: 0.004, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Momentum: 0.95,
		Clip: 1, Schedule: "wsd", Warmup: 2, Stable: 0.8, Floor: 0.1,
	}
	return c, r
}

// text is tokens of which each follows from the one before, but for every
// fourth.
func text(t *testing.T, n int) *data.Tokens {
	t.Helper()
	k, ids := rng.NewKey(7, "text"), make([]uint16, n)
	for i := 1; i < n; i++ {
		ids[i] = uint16((int(ids[i-1])*5 + 3) % 512)
		if i%4 == 0 {
			ids[i] = uint16(k.Uint32(uint64(i)) % 512)
		}
	}
	tokens, err := data.NewTokens(ids, "gpt2:512")
	must(t, err)
	return tokens
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%+v", err)
	}
}

// learn trains for so many steps.
func learn(t *testing.T, open func() (framework.Backend, error), c model.Config, r train.Recipe, steps int) course {
	t.Helper()
	ctx := context.Background()
	be, err := open()
	must(t, err)
	m, err := model.New(c)
	must(t, err)
	tr, err := train.New(ctx, be, m, r)
	must(t, err)
	must(t, tr.Initialize(ctx))
	batches, err := r.Batches(text(t, 4000))
	must(t, err)
	var out course
	for range steps {
		x, err := tr.Step(ctx, batches)
		must(t, err)
		out.loss = append(out.loss, x.Loss)
	}
	h := sha256.New()
	for _, name := range tr.Store().Names() {
		v, err := tr.Store().Get(ctx, name)
		must(t, err)
		h.Write([]byte(name))
		h.Write(v.Data)
	}
	h.Sum(out.sum[:0])
	must(t, tr.Close())
	must(t, be.Close())
	return out
}

func furthest(a, b []float64) float64 {
	most := 0.0
	for i := range a {
		most = max(most, math.Abs(a[i]-b[i]))
	}
	return most
}

// The losses of a training on the device are those of the reference backend. In
// f32, floats follow it to rounding; codes do until the first of them is rounded
// the other way, after which trainings part (two backends on the processor are as
// far apart). In bf16 they stay within 0.02 nats. Two runs have the same bits.
func TestTrainingFollowsTheReference(t *testing.T) {
	steps := 3
	if cudatest.Real() {
		steps = 20
	}
	for _, x := range []struct {
		name, quant  string
		p            engine.Precision
		first, later float64 // most difference of the first loss, and of any
		again        bool
	}{
		{"floats in f32", "none", engine.F32, 1e-6, 1e-5, false},
		{"codes in f32", "ternary:group=128", engine.F32, 1e-5, 0.02, false},
		{"codes in bf16", "ternary:group=128", engine.BF16, 2e-3, 0.02, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, r := small()
			c.Quant = x.quant
			want := learn(t, func() (framework.Backend, error) { return framework.Backends.Open("scalar") }, c, r, steps)
			if want.loss[steps-1] > want.loss[0]-0.05 {
				t.Fatalf("the reference learns nothing: %v", want.loss)
			}
			got := learn(t, generating(t, x.p), c, r, steps)
			first, later := furthest(got.loss[:1], want.loss), furthest(got.loss, want.loss)
			t.Logf("losses %.4f, reference %.4f; the first differs by %.1e, any by %.1e", got.loss, want.loss, first, later)
			if first > x.first || later > x.later {
				t.Errorf("the first loss differs by %v, any by %v: more than %v and %v", first, later, x.first, x.later)
			}
			if x.p == engine.BF16 && later == 0 {
				t.Error("nothing was rounded to bf16")
			}
			if x.again {
				if again := learn(t, generating(t, x.p), c, r, steps); again.sum != got.sum {
					t.Error("the same seed gives other bits")
				}
			}
		})
	}
}
