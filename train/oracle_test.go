package train_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/ternlm/tern/backends/all"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/formats/safetensors"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/quant"
	"github.com/ternlm/tern/train"
)

// The trajectory recorded from PyTorch: testdata/oracle/README.md.
const oracleDir = "../testdata/oracle"

type oracleRun struct {
	Loss     []float64 `json:"loss"`
	GradNorm []float64 `json:"grad_norm"`
	EvalLoss float64   `json:"eval_loss"`
	Final    map[string]struct {
		Sum        float64 `json:"sum"`
		SumSquares float64 `json:"sum_squares"`
	} `json:"final"`
}

type oracleBatch struct{ Inputs, Targets [][]int32 }

type oracle struct {
	traj struct {
		F64      oracleRun            `json:"f64"`
		Variants map[string]oracleRun `json:"variants"`
	}
	batches struct {
		Steps [][]oracleBatch
		Eval  oracleBatch
	}
}

func loadOracle(t *testing.T) *oracle {
	t.Helper()
	o := &oracle{}
	for name, dst := range map[string]any{"trajectory.json": &o.traj, "batches.json": &o.batches} {
		b, err := os.ReadFile(filepath.Join(oracleDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, dst); err != nil {
			t.Fatal(name, err)
		}
	}
	return o
}

// Next implements train.Source over the recorded micro-batches.
type recorded struct {
	steps [][]oracleBatch
	i     int
}

func (r *recorded) Next(tokens, targets []int32) error {
	n := len(r.steps[0])
	fill(r.steps[r.i/n][r.i%n], tokens, targets)
	r.i++
	return nil
}

func fill(b oracleBatch, tokens, targets []int32) {
	for i := range b.Inputs {
		copy(tokens[i*len(b.Inputs[i]):], b.Inputs[i])
		copy(targets[i*len(b.Targets[i]):], b.Targets[i])
	}
}

func oracleModel(t *testing.T) *model.Model {
	t.Helper()
	m, err := model.New(model.Config{
		Tokenizer: "gpt2", Vocab: 64, Dim: 64, Layers: 2, Heads: 4, KVHeads: 2, FFN: 96, Context: 24,
		RoPETheta: 10000, NormEps: 1e-6, Quant: "ternary:group=32,scale=f32", Residual: "mhclite:streams=2", Head: "ternary",
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var oracleRecipe = train.Recipe{
	Steps: 20, Batch: 3, Accum: 2, Window: 24, Optimizer: "adamw",
	MatrixLR: 3e-3, HeadLR: 3e-3, OtherLR: 1e-2, MatrixDecay: 0.1, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8,
	Clip: 1, Schedule: "wsd", Warmup: 4, Stable: 0.8, Floor: 0.1,
}

// oracleTrainer is a trainer that holds the recorded initial weights.
func oracleTrainer(t *testing.T, be framework.Backend) *train.Trainer {
	t.Helper()
	return oracleTrainerOf(t, be, nil, nil)
}

// oracleTrainerOf is oracleTrainer with a change to the model or the weights.
func oracleTrainerOf(t *testing.T, be framework.Backend, change func(*model.Config), spoil func(name string, w *tensor.Tensor)) *train.Trainer {
	t.Helper()
	ctx := context.Background()
	m := oracleModel(t)
	if change != nil {
		c := m.Config
		change(&c)
		m = must(model.New(c))
	}
	tr, err := train.New(ctx, be, m, oracleRecipe)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Initialize(ctx); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(filepath.Join(oracleDir, "init.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(f.Tensors) != len(tr.Parameters()) {
		t.Fatalf("%d recorded tensors, the model has %d", len(f.Tensors), len(tr.Parameters()))
	}
	for _, p := range tr.Parameters() {
		w, err := f.ReadTensor(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		if !w.Type.Equal(tensor.T(tensor.F32, p.Shape...)) {
			t.Fatalf("%s is %v, wants %v", p.Name, w.Type, p.Shape)
		}
		if spoil != nil {
			spoil(p.Name, w)
		}
		if err := tr.Store().Put(ctx, p.Name, w); err != nil {
			t.Fatal(err)
		}
	}
	runGraph(t, be, tr.Store(), must(tr.Model.Pack()), nil)
	return tr
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// runGraph compiles and runs g once and returns its outputs.
func runGraph(t *testing.T, be framework.Backend, s framework.Store, g *graph.Graph, in []*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	ctx := context.Background()
	exe, err := be.Compile(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	var out []*tensor.Tensor
	for _, o := range g.Outputs {
		out = append(out, tensor.New(o.Value.Type()))
	}
	if err := exe.Run(ctx, s, in, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func relative(got, want float64) float64 { return math.Abs(got-want) / math.Abs(want) }

// oracleBackends are the backends that must follow the trajectory.
func oracleBackends(t *testing.T) map[string]framework.Backend {
	t.Helper()
	bes := map[string]framework.Backend{"float64": scalar.Open64(1)}
	for _, name := range framework.Backends.Names() {
		be, err := framework.Backends.Open(name)
		if err != nil {
			t.Logf("backend %s: %v", name, err)
			continue
		}
		bes[name] = be
	}
	t.Cleanup(func() {
		for _, be := range bes {
			be.Close()
		}
	})
	return bes
}

func TestTrainingFollowsPyTorch(t *testing.T) {
	o := loadOracle(t)
	for name, be := range oracleBackends(t) {
		t.Run(name, func(t *testing.T) {
			tr := oracleTrainer(t, be)
			src := &recorded{steps: o.batches.Steps}
			worst, worstNorm := 0.0, 0.0
			for i := range oracleRecipe.Steps {
				m, err := tr.Step(context.Background(), src)
				if err != nil {
					t.Fatal(err)
				}
				l, n := relative(m.Loss, o.traj.F64.Loss[i]), relative(m.GradNorm, o.traj.F64.GradNorm[i])
				worst, worstNorm = max(worst, l), max(worstNorm, n)
				if l > 1e-4 || n > 1e-4 {
					t.Errorf("step %d: loss %.9g, recorded %.9g; gradient norm %.9g, recorded %.9g", i, m.Loss, o.traj.F64.Loss[i], m.GradNorm, o.traj.F64.GradNorm[i])
				}
			}
			t.Logf("worst relative difference: loss %.1e, gradient norm %.1e", worst, worstNorm)
			if name != "avx2" && max(worst, worstNorm) > 2e-6 { // what float32 itself keeps to
				t.Errorf("%s is further from the recording than rounding explains", name)
			}
			compareFinal(t, tr, o)
			compareEval(t, be, tr, o)
		})
	}
}

// compareFinal checks the weights after the last step by their norms. The
// parameters on which the loss does not depend are left out (see the README).
func compareFinal(t *testing.T, tr *train.Trainer, o *oracle) {
	for _, p := range tr.Parameters() {
		if strings.Contains(p.Name, "blk.0.attn.mhc.") || strings.HasSuffix(p.Name, "alpha_logit") {
			continue
		}
		w, err := tr.Store().Get(context.Background(), p.Name)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, v := range w.Floats() {
			sum += v * v
		}
		if want := o.traj.F64.Final[p.Name].SumSquares; relative(sum, want) > 1e-4 {
			t.Errorf("%s: sum of squares %.9g, recorded %.9g", p.Name, sum, want)
		}
	}
}

// compareEval evaluates the packed model after the last step.
func compareEval(t *testing.T, be framework.Backend, tr *train.Trainer, o *oracle) {
	tokens, targets := tensor.New(tensor.T(tensor.I32, 3, 24)), tensor.New(tensor.T(tensor.I32, 72))
	fill(o.batches.Eval, tokens.I32(), targets.I32())
	nll := runGraph(t, be, tr.Store(), must(tr.Model.Loss(3, 24, true)), []*tensor.Tensor{tokens, targets})[0]
	sum := 0.0
	for _, v := range nll.Floats() {
		sum += v
	}
	if got := sum / 72; relative(got, o.traj.F64.EvalLoss) > 1e-4 {
		t.Errorf("evaluation %.9g, recorded %.9g", got, o.traj.F64.EvalLoss)
	}
}

// The recording has two wrong programs beside it. Made wrong in the same way,
// this program follows them instead, so the test above would notice.
func TestTrajectoryTellsWrongProgramsApart(t *testing.T) {
	for name, spoil := range map[string]struct {
		model   func(*model.Config)
		weights func(name string, w *tensor.Tensor)
	}{
		"scale_max":       {model: func(c *model.Config) { c.Quant = "absmax" }},
		"rope_split_half": {weights: splitHalves},
	} {
		t.Run(name, func(t *testing.T) {
			o, be := loadOracle(t), open64(t)
			tr := oracleTrainerOf(t, be, spoil.model, spoil.weights)
			src := &recorded{steps: o.batches.Steps}
			apart := 0.0
			for i, want := range o.traj.Variants[name].Loss {
				m, err := tr.Step(context.Background(), src)
				if err != nil {
					t.Fatal(err)
				}
				if relative(m.Loss, want) > 1e-4 {
					t.Errorf("step %d: loss %.9g, the wrong program's is %.9g", i, m.Loss, want)
				}
				apart = max(apart, relative(m.Loss, o.traj.F64.Loss[i]))
			}
			if apart < 3e-4 {
				t.Errorf("differs by %.1e at most from the right program: the tolerance of 1e-4 would not see it", apart)
			}
		})
	}
}

// splitHalves reorders the rows of each head of wq and wk so that rotating
// interleaved pairs rotates what were the pairs (i, i+8).
func splitHalves(name string, w *tensor.Tensor) {
	if !strings.HasSuffix(name, "wq.weight") && !strings.HasSuffix(name, "wk.weight") {
		return
	}
	const half = 8
	k, from := w.Shape[1], w.Clone().F32()
	for row := range w.Shape[0] {
		head, i := row/(2*half), row%(2*half)
		source := head*2*half + i/2 + i%2*half
		copy(w.F32()[row*k:(row+1)*k], from[source*k:(source+1)*k])
	}
}

// absMax is ternary with the wrong scale rule: the largest magnitude of a group
// of 32 instead of the mean.
type absMax struct{ quant.Ternary }

func (absMax) Spec() string { return "absmax" }

func (absMax) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	m, k := w.Dim(0), w.Dim(1)
	x := b.Reshape(w, m, k/32, 32)
	s := b.Max(b.AMax(b.Abs(x), 2), b.Like(x, 1e-8))
	q := b.Min(b.Max(b.Round(b.Div(x, s)), b.Like(x, -1)), b.Like(x, 1))
	return b.Encode(b.Reshape(q, m, k), tensor.U2, []int8{-1, 0, 1}), b.Reshape(s, m, k/32)
}

func init() {
	framework.Quantizers.Register("absmax", func(framework.Options) (framework.Quantizer, error) {
		return absMax{quant.Ternary{Group: 32, F32: true}}, nil
	})
}
