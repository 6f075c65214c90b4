package train

import (
	"errors"
	"math"
	"testing"

	"github.com/ternlm/tern/model"
)

// The figures of the published run; the model parts that it fixes too.
func TestReportRecipeIsTheReportsRun(t *testing.T) {
	want := Recipe{
		Steps: 57635, Batch: 8, Accum: 4, Window: 256, Seed: 1, // windows of 257 tokens that do not overlap
		Optimizer: "adamw", MatrixLR: 3e-4, HeadLR: 3e-4, OtherLR: 1e-3, MatrixDecay: 0.1,
		Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Momentum: 0.95, Clip: 1,
		Schedule: "wsd", Warmup: 500, Stable: 0.8, Floor: 0.1,
	}
	if got, err := LookupRecipe("report"); err != nil || got != want {
		t.Errorf("%+v, want %+v (%v)", got, want, err)
	}
	// step/500 with steps counted from 1, then flat, then 0.1 + 0.45(1 + cos(pi p)).
	for step, f := range map[int]float64{0: 1. / 500, 499: 1, 30000: 1, 46108: 1, 57634: 0.1 + 0.45*(1+math.Cos(math.Pi*11526/11527))} {
		if got := want.Factor(step); math.Abs(got-f) > 1e-6 {
			t.Errorf("factor of step %d is %v, want %v", step, got, f)
		}
	}
	c, err := model.Preset("nano-125m")
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.New(ReportModel(c))
	if err != nil {
		t.Fatal(err)
	}
	if m.Config.Quant != "ternary:group=128,scale=f32" || m.Config.Residual != "mhclite:streams=2,init=report" || m.Head != "ternary" || m.Tied || m.SubNorm {
		t.Errorf("the report's model is %+v", m.Config)
	}
	ps, err := m.Parameters()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps { // learning rate and decay by group
		g, ternary := want.groupOf(p), p.Category == model.Ternary
		if g.muon || ternary && (g.lr != 3e-4 || g.decay != 0.1) || !ternary && (g.lr != 1e-3 || g.decay != 0) {
			t.Errorf("%s: %+v", p.Name, g)
		}
	}
}

func TestBadRecipesAreRefused(t *testing.T) {
	c, err := model.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Recipe){
		"no steps":                 func(r *Recipe) { r.Steps = 0 },
		"window beyond context":    func(r *Recipe) { r.Window = c.Context + 1 },
		"negative warm-up":         func(r *Recipe) { r.Warmup = -1 },
		"learning rate of NaN":     func(r *Recipe) { r.MatrixLR = math.NaN() },
		"infinite clip":            func(r *Recipe) { r.Clip = math.Inf(1) },
		"eps 0":                    func(r *Recipe) { r.Eps = 0 },
		"eps that is 0 in f32":     func(r *Recipe) { r.Eps = 1e-60 },
		"beta2 of 1":               func(r *Recipe) { r.Beta2 = 1 },
		"an optimizer of no name":  func(r *Recipe) { r.Optimizer = "" },
		"an unknown schedule":      func(r *Recipe) { r.Schedule = "linear" },
		"a batch beyond all sense": func(r *Recipe) { r.Batch = 1 << 20 },
	} {
		r, err := LookupRecipe("default")
		if err != nil {
			t.Fatal(err)
		}
		change(&r)
		if err := r.Validate(c); !errors.Is(err, ErrRecipe) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
