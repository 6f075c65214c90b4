package train_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/data/tinystories"
	"github.com/ternlm/tern/diagnose"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

// small is a model that trains in moments.
func small(t *testing.T, change func(*model.Config)) *model.Model {
	t.Helper()
	c := model.Config{
		Tokenizer: "gpt2:512", Vocab: 512, Dim: 64, Layers: 2, Heads: 2, KVHeads: 1, FFN: 128, Context: 64, RoPETheta: 10000, NormEps: 1e-6,
		Quant: "ternary:group=64", Residual: "mhclite:streams=2", Head: "ternary", SubNorm: true,
	}
	if change != nil {
		change(&c)
	}
	return must(model.New(c))
}

func quick(change func(*train.Recipe)) train.Recipe {
	r := must(train.LookupRecipe("default"))
	r.Steps, r.Batch, r.Accum, r.Window, r.Warmup = 10, 2, 2, 32, 2
	if change != nil {
		change(&r)
	}
	return r
}

var stories = must(data.TokenizeText(context.Background(), must(tinystories.Valid())[:60_000], "gpt2:512"))

func backend(t *testing.T, spec string) framework.Backend {
	t.Helper()
	be, err := framework.Backends.Open(spec)
	if errors.Is(err, framework.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { be.Close() })
	return be
}

// eachBackend runs f on every backend that this machine has.
func eachBackend(t *testing.T, f func(t *testing.T, be framework.Backend)) {
	for _, name := range framework.Backends.Names() {
		t.Run(name, func(t *testing.T) { f(t, backend(t, name+":threads=2")) })
	}
}

func start(t *testing.T, be framework.Backend, m *model.Model, r train.Recipe) (*train.Trainer, *data.Batches) {
	t.Helper()
	tr, err := train.New(context.Background(), be, m, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Initialize(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tr, must(r.Batches(stories))
}

func steps(t *testing.T, tr *train.Trainer, src train.Source, n int) (losses []float64) {
	t.Helper()
	for range n {
		m, err := tr.Step(context.Background(), src)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, m.Loss)
	}
	return losses
}

// state is everything that a checkpoint would hold, as bytes.
func state(t *testing.T, tr *train.Trainer, b *data.Batches) map[string][]byte {
	t.Helper()
	s := must(tr.Snapshot(context.Background(), b, nil))
	out := map[string][]byte{}
	for name, v := range s.Tensors {
		out[name] = v.Data
	}
	return out
}

func sameState(t *testing.T, what string, got, want map[string][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d tensors, want %d", what, len(got), len(want))
	}
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%s: %s differs", what, name)
		}
	}
}

func TestResumeEqualsNeverHavingStopped(t *testing.T) {
	for _, optimizer := range []string{"adamw", "muon"} {
		eachBackend(t, func(t *testing.T, be framework.Backend) {
			ctx := context.Background()
			r := quick(func(r *train.Recipe) { r.Optimizer = optimizer })
			tr, src := start(t, be, small(t, nil), r)
			steps(t, tr, src, 3)
			snap := must(tr.Snapshot(ctx, src, nil))
			steps(t, tr, src, 3)
			want := state(t, tr, src)

			again, src2 := start(t, be, small(t, nil), r)
			if err := again.Restore(ctx, src2, &snap); err != nil {
				t.Fatal(err)
			}
			steps(t, again, src2, 3)
			sameState(t, optimizer, state(t, again, src2), want)
		})
	}
}

func TestBitsDoNotDependOnTheThreads(t *testing.T) {
	for _, name := range framework.Backends.Names() {
		t.Run(name, func(t *testing.T) {
			var want map[string][]byte
			for _, threads := range []string{"1", "2", "3"} {
				tr, src := start(t, backend(t, name+":threads="+threads), small(t, nil), quick(nil))
				steps(t, tr, src, 4)
				got := state(t, tr, src)
				if want == nil {
					want = got
				}
				sameState(t, threads+" threads", got, want)
			}
		})
	}
}

// TestBitsDoNotDependOnTheInstructionSet: a run may go on on another processor.
func TestBitsDoNotDependOnTheInstructionSet(t *testing.T) {
	for _, optimizer := range []string{"adamw", "muon"} {
		r := quick(func(r *train.Recipe) { r.Optimizer = optimizer })
		run := func(isa string) map[string][]byte {
			be, err := framework.Backends.Open("avx2:threads=2,isa=" + isa)
			if errors.Is(err, framework.ErrUnsupported) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = be.Close() }()
			tr, src := start(t, be, small(t, nil), r)
			steps(t, tr, src, 4)
			return state(t, tr, src)
		}
		sameState(t, optimizer, run("avx512"), run("avx2"))
	}
}

func TestAStepAllocatesNothing(t *testing.T) {
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		tr, src := start(t, be, small(t, nil), quick(func(r *train.Recipe) { r.Steps = 1000 }))
		steps(t, tr, src, 3)
		ctx := context.Background()
		if n := testing.AllocsPerRun(5, func() {
			if _, err := tr.Step(ctx, src); err != nil {
				t.Error(err)
			}
		}); n > 0 {
			t.Errorf("%v allocations a step", n)
		}
	})
}

// one repeats a single batch.
type one struct{ tokens, targets []int32 }

func (o one) Next(tokens, targets []int32) error {
	copy(tokens, o.tokens)
	copy(targets, o.targets)
	return nil
}

func TestTinyOverfitsOneBatch(t *testing.T) {
	be := backend(t, "avx2")
	c := must(model.Preset("tiny"))
	r := must(train.LookupRecipe("default"))
	r.Batch, r.Accum, r.Window, r.Steps = 2, 1, 64, 120
	r.Optimizer, r.MatrixLR = "adamw", 3e-3 // Muon's cost does not shrink with the batch
	tr, err := train.New(context.Background(), be, must(model.New(c)), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Initialize(context.Background()); err != nil {
		t.Fatal(err)
	}
	text := must(data.TokenizeText(context.Background(), must(tinystories.Valid())[:20_000], c.Tokenizer))
	b := one{make([]int32, 128), make([]int32, 128)}
	if err := must(r.Batches(text)).Next(b.tokens, b.targets); err != nil {
		t.Fatal(err)
	}
	losses := steps(t, tr, b, r.Steps)
	if last := losses[len(losses)-1]; last >= 0.05 {
		t.Errorf("loss %.4f after %d steps on one batch, want below 0.05", last, r.Steps)
	}
}

func TestNanoStartsNearTheUniformLoss(t *testing.T) {
	be := backend(t, "avx2")
	c := must(model.Preset("nano-125m"))
	r := must(train.LookupRecipe("report"))
	r.Batch, r.Window = 1, 32
	tr, err := train.New(context.Background(), be, must(model.New(c)), r)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Initialize(context.Background()); err != nil {
		t.Fatal(err)
	}
	text := must(data.TokenizeText(context.Background(), must(tinystories.Valid())[:20_000], c.Tokenizer))
	ev, err := train.NewEvaluator(context.Background(), be, tr.Model, model.Pass{Packed: true}, text, 1, 32, 4)
	if err != nil {
		t.Fatal(err)
	}
	s := must(ev.Run(context.Background(), tr.Store()))
	if s.Loss < 10.8 || s.Loss > 11.0 {
		t.Errorf("loss %.4f at step 0, want 10.8 to 11.0", s.Loss)
	}
}

func TestStreamsDivergeUnderTheDefaultInitOnly(t *testing.T) {
	be := backend(t, "scalar")
	for spec, diverge := range map[string]bool{"mhclite:streams=2": true, "mhclite:streams=4": true, "mhclite:streams=2,init=report": false} {
		tr, src := start(t, be, small(t, func(c *model.Config) { c.Residual = spec }), quick(nil))
		d, err := train.NewDiagnoser(context.Background(), tr, zeros(2, 32))
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			steps(t, tr, src, 1)
			got := must(d.Run(context.Background()))
			if math.Abs(got.CompositeGain-1) > 1e-6 || got.Violations != 0 {
				t.Errorf("%s: composite gain %v, %d violations", spec, got.CompositeGain, got.Violations)
			}
			for l, v := range got.Divergence {
				if diverge && v < 1e-3 || !diverge && v != 0 {
					t.Errorf("%s: divergence %v after sub-layer %d", spec, v, l)
				}
			}
		}
	}
}

// The report's init makes mHC-lite the residual with one learned scalar: the
// branch enters with 2 sigmoid(0.5), and reading scales the norm's input only.
func TestReportInitEqualsTheScaledResidual(t *testing.T) {
	be := open64(t) // so that rounding of activations does not amplify rounding of floats
	gain := 2 / (1 + math.Exp(-0.5))
	run := func(residual string) []float64 {
		m := small(t, func(c *model.Config) { c.Residual, c.NormEps = residual, 1e-12 })
		tr, src := start(t, be, m, quick(func(r *train.Recipe) { r.Optimizer = "adamw"; r.OtherLR = 0; r.MatrixLR = 1e-3 }))
		return steps(t, tr, src, 5)
	}
	mhc, scaled := run("mhclite:streams=2,init=report"), run("scaled:init="+strings.TrimSpace(formatFloat(gain)))
	for i := range mhc {
		if relative(mhc[i], scaled[i]) > 1e-6 {
			t.Errorf("step %d: loss %.9f, scaled residual %.9f", i, mhc[i], scaled[i])
		}
	}
}

func TestDivergedTrainingSaysWhere(t *testing.T) {
	be := backend(t, "scalar")
	tr, src := start(t, be, small(t, nil), quick(nil))
	bad := tensor.New(tensor.T(tensor.F32, 64))
	bad.F32()[3] = float32(math.NaN())
	if err := tr.Store().Put(context.Background(), "blk.1.ffn.norm.weight", bad); err != nil {
		t.Fatal(err)
	}
	_, err := tr.Step(context.Background(), src)
	if !errors.Is(err, train.ErrDiverged) || !strings.Contains(err.Error(), "blk.1.ffn.norm.weight") {
		t.Errorf("error %v, want ErrDiverged naming the parameter", err)
	}
}

func TestSnapshotOfAnotherModelIsRefused(t *testing.T) {
	be := backend(t, "scalar")
	tr, src := start(t, be, small(t, nil), quick(nil))
	snap := must(tr.Snapshot(context.Background(), src, nil))
	other, src2 := start(t, be, small(t, func(c *model.Config) { c.FFN = 192 }), quick(nil))
	if err := other.Restore(context.Background(), src2, &snap); err == nil || !strings.Contains(err.Error(), "ffn") {
		t.Errorf("error %v, want one that names the tensors", err)
	}
}

// The gradient of the whole model in float64, quantizers taken out, along
// random directions: central differences of the loss.
func TestWholeModelGradientInFloat64(t *testing.T) {
	be := open64(t)
	ctx := context.Background()
	m := small(t, func(c *model.Config) {
		c.Quant, c.Vocab, c.Dim, c.FFN, c.Residual = "none", 40, 16, 24, "mhclite:streams=4"
	})
	const B, T = 2, 6
	params := must(m.Parameters())
	s := must(be.NewStore())
	values := map[string]*tensor.Tensor{}
	for i, p := range params {
		w := tensor.New(tensor.T(tensor.F64, p.Shape...))
		fillNormal(w.F64(), 100+i, 0.4)
		if p.Category == model.NormGain {
			for j := range w.F64() {
				w.F64()[j]++
			}
		}
		values[p.Name] = w
	}
	load := func(dir map[string][]float64, h float64) {
		for name, w := range values {
			v := w.Clone()
			for j := range v.F64() {
				v.F64()[j] += h * dir[name][j]
			}
			if err := s.Put(ctx, name, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	in := []*tensor.Tensor{tensor.New(tensor.T(tensor.I32, B, T)), tensor.New(tensor.T(tensor.I32, B*T))}
	for i := range B * T {
		in[0].I32()[i], in[1].I32()[i] = int32(i*7%40), int32(i*11%40)
	}
	step := must(be.Compile(ctx, must(m.Accumulate(B, T, 1))))
	loss := func() float64 {
		out := []*tensor.Tensor{tensor.New(tensor.T(tensor.F64))}
		if err := step.Run(ctx, s, in, out); err != nil {
			t.Fatal(err)
		}
		return out[0].F64()[0]
	}
	for trial := range 3 {
		dir := map[string][]float64{}
		for i, p := range params {
			dir[p.Name] = make([]float64, p.Shape.Numel())
			fillNormal(dir[p.Name], 1000*trial+i, 1)
		}
		zero := map[string][]float64{}
		for name, d := range dir {
			zero[name] = make([]float64, len(d))
		}
		load(zero, 0)
		loss()
		want := 0.0
		for _, p := range params {
			g := must(s.Get(ctx, model.GradPrefix+p.Name))
			for j, v := range g.F64() {
				want += v * dir[p.Name][j]
			}
		}
		if got := richardson(func(h float64) float64 { load(dir, h); return loss() }); relative(got, want) > 1e-8 {
			t.Errorf("direction %d: differences %.12g, gradient %.12g (%.1e relative)", trial, got, want, relative(got, want))
		}
	}
}

// richardson is the derivative of f at 0 by central differences of three
// steps, extrapolated: its error is of sixth order.
func richardson(f func(h float64) float64) float64 {
	const h = 1e-5
	d := func(h float64) float64 { return (f(h) - f(-h)) / (2 * h) }
	a, b, c := d(h), d(2*h), d(4*h)
	ab, bc := (4*a-b)/3, (4*b-c)/3
	return (16*ab - bc) / 15
}

// zeros is a text of token 0.
func zeros(batch, window int) diagnose.Windows {
	return diagnose.Windows{Batch: batch, Window: window, Tokens: make([]int32, batch*window), Targets: make([]int32, batch*window)}
}

func TestDiagnosisCountsZerosAndFlips(t *testing.T) {
	ctx := context.Background()
	be := backend(t, "scalar")
	tr, _ := start(t, be, small(t, nil), quick(nil))
	d, err := train.NewDiagnoser(ctx, tr, zeros(1, 32))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	total, zeros := 0, 0
	for _, p := range tr.Parameters() {
		if p.Category != model.Ternary {
			continue
		}
		codes := must(tr.Store().Get(ctx, strings.TrimSuffix(p.Name, "weight")+"codes"))
		total += p.Shape.Numel()
		for _, b := range codes.Data {
			for range 4 {
				if b&3 == 1 {
					zeros++
				}
				b >>= 2
			}
		}
	}
	r := must(d.Run(ctx))
	if want := float64(zeros) / float64(total); r.Zeros != want {
		t.Errorf("zeros %v, want %v", r.Zeros, want)
	}
	if r.Flips != nil {
		t.Errorf("flips %v in the first diagnosis", *r.Flips)
	}
	name := "blk.0.ffn.up.codes"
	codes := must(tr.Store().Get(ctx, name))
	for i := range 10 { // one code of each of ten bytes
		codes.Data[7*i] = codes.Data[7*i]&^0x30 | (codes.Data[7*i]>>4&3+1)%3<<4
	}
	if err := tr.Store().Put(ctx, name, codes); err != nil {
		t.Fatal(err)
	}
	if r = must(d.Run(ctx)); r.Flips == nil || *r.Flips != 10/float64(total) {
		t.Errorf("flips %v, want %v", r.Flips, 10/float64(total))
	}
}

func TestATrainerStartsAfresh(t *testing.T) {
	ctx := context.Background()
	be := backend(t, "scalar")
	r := quick(nil)
	tr, src := start(t, be, small(t, nil), r)
	want := steps(t, tr, src, 3)
	if err := tr.Initialize(ctx); err != nil { // moments of the first training are gone
		t.Fatal(err)
	}
	src.Seek(0)
	for i, l := range steps(t, tr, src, 3) {
		if l != want[i] {
			t.Errorf("step %d: loss %v, was %v in the first training", i, l, want[i])
		}
	}
}

// Every diagnosis of a whole run, on every backend.
func TestGainStaysOneAllThroughARun(t *testing.T) {
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		r := quick(func(r *train.Recipe) { r.Steps = 20 })
		tr, src := start(t, be, small(t, func(c *model.Config) { c.Residual = "mhclite:streams=4" }), r)
		seen := 0
		err := train.Run(context.Background(), tr, src, train.Plan{
			Dir: t.TempDir(), EvalEvery: 1, EvalLimit: 2, Valid: stories, EvalBatch: 2, EvalWindow: 32,
			Observe: func(e train.Event) {
				seen++
				d := e.Diagnosis
				if math.Abs(d.CompositeGain-1) > 1e-6 || d.Violations != 0 {
					t.Errorf("step %d: composite gain %v, %d violations", e.Step, d.CompositeGain, d.Violations)
				}
			},
		})
		if err != nil || seen != r.Steps {
			t.Errorf("%d of %d diagnoses, %v", seen, r.Steps, err)
		}
	})
}
