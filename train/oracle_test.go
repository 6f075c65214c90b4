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
	ctx := context.Background()
	tr, err := train.New(ctx, be, oracleModel(t), oracleRecipe)
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

// The recording has two wrong programs beside it; a test that they would pass
// could not tell a wrong layout of RoPE or a wrong scale.
func TestTrajectoryTellsWrongProgramsApart(t *testing.T) {
	o := loadOracle(t)
	for _, name := range []string{"rope_split_half", "scale_max"} {
		losses := o.traj.Variants[name].Loss
		if len(losses) == 0 {
			t.Fatalf("no losses of variant %s", name)
		}
		apart := 0.0
		for i, l := range losses {
			apart = max(apart, relative(l, o.traj.F64.Loss[i]))
		}
		if apart < 3e-4 {
			t.Errorf("%s differs by %.1e at most: the tolerance of 1e-4 would not see it", name, apart)
		}
	}
}
