package infer_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	_ "github.com/ternlm/tern/backends/all"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/internal/memory"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/train"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var base = model.Config{
	Tokenizer: "gpt2:512", Vocab: 512, Dim: 64, Layers: 2, Heads: 4, KVHeads: 2, FFN: 128, Context: 160, RoPETheta: 10000, NormEps: 1e-6,
	Quant: "ternary:group=64", Residual: "mhclite:streams=2", Head: "ternary", SubNorm: true,
}

func TestModelThatDoesNotFitIsRefused(t *testing.T) {
	if _, err := os.Stat("/proc/meminfo"); err != nil {
		t.Skip("this system does not tell how much memory it has")
	}
	large := base
	large.Dim, large.FFN, large.Layers, large.Context = 1<<16, 1<<19, 64, 1<<20
	// It is refused before the weights, of which there are none, are asked for.
	_, err := infer.Load(context.Background(), must(framework.Backends.Open("scalar")), &modelfile.Weights{Model: must(model.New(large))})
	if hints := errors.FlattenHints(err); !errors.Is(err, memory.ErrNotEnough) || !strings.Contains(hints, "a shorter context (this one's is 1048576)") {
		t.Errorf("error %v, hints %q", err, hints)
	}
}

// weights are those of a model with random parameters.
func weights(t *testing.T, be framework.Backend, c model.Config) *modelfile.Weights {
	t.Helper()
	ctx := context.Background()
	r := must(train.LookupRecipe("default"))
	r.Batch, r.Window = 1, 8
	tr, err := train.New(ctx, be, must(model.New(c)), r)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Initialize(ctx); err != nil {
		t.Fatal(err)
	}
	return must(modelfile.Collect(ctx, tr.Model, tr.Store()))
}

func eachBackend(t *testing.T, f func(t *testing.T, be framework.Backend)) {
	for _, name := range framework.Backends.Names() {
		t.Run(name, func(t *testing.T) {
			be, err := framework.Backends.Open(name)
			if errors.Is(err, framework.ErrUnsupported) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer be.Close()
			f(t, be)
		})
	}
}

func sequence(n, vocab int) []int32 {
	s := make([]int32, n)
	for i := range s {
		s[i] = int32((i*i*31 + 17*i + 5) % vocab)
	}
	return s
}

// forward gives the logits [T,Vocab] of a whole sequence at once.
func forward(t *testing.T, be framework.Backend, w *modelfile.Weights, tokens []int32) []float32 {
	t.Helper()
	ctx := context.Background()
	g := must(graph.Trace(func(b *graph.Builder) {
		b.Output("logits", w.Model.Forward(b, b.Input("tokens", tensor.I32, 1, len(tokens)), modelfile.Pass))
	}))
	s := must(be.NewStore())
	defer s.Close()
	if err := w.Put(ctx, s); err != nil {
		t.Fatal(err)
	}
	exe := must(be.Compile(ctx, g))
	defer exe.Close()
	out := tensor.New(tensor.T(tensor.F32, len(tokens), w.Model.Vocab))
	if err := exe.Run(ctx, s, []*tensor.Tensor{tensor.FromI32(tokens, 1, len(tokens))}, []*tensor.Tensor{out}); err != nil {
		t.Fatal(err)
	}
	return out.F32()
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: logit %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestDecodeAndPrefillEqualTheForwardBitForBit(t *testing.T) {
	configs := map[string]func(*model.Config){
		"ternary head":     func(*model.Config) {},
		"tied f16 head":    func(c *model.Config) { c.Head, c.Tied = "f16", true },
		"own f16 head":     func(c *model.Config) { c.Head = "f16" },
		"int8 head":        func(c *model.Config) { c.Head = "int8" },
		"standard, row":    func(c *model.Config) { c.Residual, c.Quant = "standard", "ternary:group=row" },
		"float, 4 streams": func(c *model.Config) { c.Residual, c.Quant, c.Head = "mhclite:streams=4", "none", "f16" },
		"scaled, tensor":   func(c *model.Config) { c.Residual, c.Quant = "scaled", "ternary:group=tensor,scale=f32" },
	}
	for name, change := range configs {
		t.Run(name, func(t *testing.T) {
			c := base
			change(&c)
			eachBackend(t, func(t *testing.T, be framework.Backend) { checkDecode(t, be, c) })
		})
	}
}

func checkDecode(t *testing.T, be framework.Backend, c model.Config) {
	ctx := context.Background()
	w := weights(t, be, c)
	tokens := sequence(150, c.Vocab)
	want := forward(t, be, w, tokens)
	m := must(infer.Load(ctx, be, w))
	defer m.Close()
	at := func(i int) []float32 { return want[(i-1)*c.Vocab : i*c.Vocab] }

	one := must(m.NewSession())
	defer one.Close()
	for i := range tokens[:70] {
		sameBits(t, fmt.Sprintf("token %d alone", i), must(one.Feed(ctx, tokens[i:i+1])), at(i+1))
	}
	for _, cut := range []int{2, 63, 64, 65, 100, 149} {
		s := must(m.NewSession())
		sameBits(t, fmt.Sprintf("prefill of %d", cut), must(s.Feed(ctx, tokens[:cut])), at(cut))
		sameBits(t, fmt.Sprintf("the rest after %d", cut), must(s.Feed(ctx, tokens[cut:])), at(len(tokens)))
		s.Close()
	}
}

// Keys and values rounded to f16 move the logits a little, and the same however
// the sequence is cut.
func TestHalfCacheGivesTheSameBitsForEveryCutNearThoseOfFloats(t *testing.T) {
	c := base
	c.Context = 400
	tokens := sequence(390, c.Vocab)
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		ctx := context.Background()
		w := weights(t, be, c)
		feed := func(m *infer.Model, cuts ...int) []float32 {
			s := must(m.NewSession())
			defer s.Close()
			rest := tokens
			for _, n := range cuts {
				must(s.Feed(ctx, rest[:n]))
				rest = rest[n:]
			}
			return append([]float32{}, must(s.Feed(ctx, rest))...)
		}
		half := must(infer.Load(ctx, be, w, infer.CacheType(tensor.F16)))
		defer half.Close()
		got := feed(half)
		sameBits(t, "cut in two", feed(half, 131), got)
		sameBits(t, "few at a time", feed(half, 64, 1, 2, 3, 4, 5, 300), got)
		if be.Name() != "scalar" { // which takes its time
			sameBits(t, "one by one", feed(half, slices.Repeat([]int{1}, 389)...), got)
		}
		whole := must(infer.Load(ctx, be, w))
		defer whole.Close()
		floats := feed(whole)
		sameBits(t, "floats", floats, forward(t, be, w, tokens)[389*c.Vocab:])
		var far, size float64
		for i, v := range floats {
			far, size = max(far, math.Abs(float64(got[i]-v))), max(size, math.Abs(float64(v)))
		}
		// 11 bits of each key and value, and now and then an activation that
		// falls to the other side of a rounding.
		if far == 0 || far > 0.03*size {
			t.Errorf("logits differ by %v of %v, want a little", far, size)
		}
	})
}

func TestSessionsShareWeightsAndNothingElse(t *testing.T) {
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		ctx := context.Background()
		w := weights(t, be, base)
		m := must(infer.Load(ctx, be, w))
		defer m.Close()
		a, b := must(m.NewSession()), must(m.NewSession())
		defer a.Close()
		defer b.Close()
		x, y := sequence(40, 512), sequence(80, 512)[40:]
		for i := range x {
			must(a.Feed(ctx, x[i:i+1]))
			must(b.Feed(ctx, y[i:i+1]))
		}
		sameBits(t, "first session", a.Logits(), forward(t, be, w, x)[39*512:])
		sameBits(t, "second session", b.Logits(), forward(t, be, w, y)[39*512:])
		a.Reset()
		sameBits(t, "after reset", must(a.Feed(ctx, y)), b.Logits())
	})
}

func TestDecodingAllocatesNothing(t *testing.T) {
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		ctx := context.Background()
		m := must(infer.Load(ctx, be, weights(t, be, base)))
		defer m.Close()
		s := must(m.NewSession())
		defer s.Close()
		smp := must(infer.NewSampler(infer.Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95}, 512))
		next := []int32{1}
		must(s.Feed(ctx, next))
		if n := testing.AllocsPerRun(20, func() {
			logits, err := s.Feed(ctx, next)
			if err != nil {
				t.Error(err)
			}
			next[0] = smp.Next(logits)
		}); n > 0 {
			t.Errorf("%v allocations a token", n)
		}
	})
}

func TestAFullContextIsAnError(t *testing.T) {
	ctx := context.Background()
	be := must(framework.Backends.Open("scalar"))
	defer be.Close()
	c := base
	c.Context = 20 // no multiple of a chunk
	m := must(infer.Load(ctx, be, weights(t, be, c)))
	defer m.Close()
	s := must(m.NewSession())
	defer s.Close()
	if _, err := s.Feed(ctx, sequence(21, 512)); !errors.Is(err, infer.ErrContext) {
		t.Errorf("21 tokens: %v", err)
	}
	must(s.Feed(ctx, sequence(20, 512)))
	if _, err := s.Feed(ctx, []int32{1}); !errors.Is(err, infer.ErrContext) {
		t.Errorf("token 21: %v", err)
	}
	if _, err := s.Feed(ctx, nil); !errors.Is(err, framework.ErrInput) {
		t.Errorf("no tokens: %v", err)
	}
}

func TestAnIDBeyondTheVocabularyIsAnError(t *testing.T) {
	ctx := context.Background()
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		m := must(infer.Load(ctx, be, weights(t, be, base)))
		defer m.Close()
		s := must(m.NewSession())
		defer s.Close()
		for _, id := range []int32{-1, 512, math.MaxInt32} {
			if _, err := s.Feed(ctx, []int32{id}); !errors.Is(err, framework.ErrInput) {
				t.Errorf("id %d: %v", id, err)
			}
		}
	})
}

func TestGenerateStopsAtTheEnd(t *testing.T) {
	ctx := context.Background()
	be := must(framework.Backends.Open("scalar"))
	defer be.Close()
	m := must(infer.Load(ctx, be, weights(t, be, base)))
	defer m.Close()
	run := func(end int32, limit int) (ids []int32) {
		s := must(m.NewSession())
		defer s.Close()
		smp := must(infer.NewSampler(infer.Sampling{}, 512))
		for id, err := range infer.Generate(ctx, s, []int32{3, 4}, smp, end, limit) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return ids
	}
	all := run(-1, 12)
	if len(all) != 12 {
		t.Fatalf("%d tokens, want 12", len(all))
	}
	for i, id := range all {
		if got := run(id, 12); len(got) > i {
			t.Errorf("end %d: %v, want to stop before place %d", id, got, i)
		}
	}
	if long := run(-1, 1000); len(long) != base.Context-2+1 {
		t.Errorf("%d tokens to the end of a context of %d", len(long), base.Context)
	}
}

func TestAMissingWeightIsAnError(t *testing.T) {
	ctx := context.Background()
	be := must(framework.Backends.Open("scalar"))
	defer be.Close()
	w := weights(t, be, base)
	delete(w.Tensors, "blk.1.ffn.up.codes")
	if _, err := infer.Load(ctx, be, w); !errors.Is(err, framework.ErrNoState) {
		t.Errorf("error %v, want ErrNoState", err)
	}
}
