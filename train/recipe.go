package train

import (
	"math"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/model"
)

// ErrRecipe is returned for a recipe that cannot be followed.
var ErrRecipe = errors.New("bad recipe")

// Recipe is how a model is trained: everything but the model and the text.
type Recipe struct {
	Steps  int    `json:"steps" yaml:"steps"`   // optimizer steps
	Batch  int    `json:"batch" yaml:"batch"`   // windows in a micro-batch
	Accum  int    `json:"accum" yaml:"accum"`   // micro-batches in a step
	Window int    `json:"window" yaml:"window"` // tokens a window
	Stride int    `json:"stride" yaml:"stride"` // between windows; 0 is window+1
	Align  bool   `json:"align" yaml:"align"`   // windows start at stories
	Seed   uint64 `json:"seed" yaml:"seed"`

	Optimizer   string  `json:"optimizer" yaml:"optimizer"`       // "adamw", or "muon" for hidden matrices
	MatrixLR    float64 `json:"matrix_lr" yaml:"matrix_lr"`       // hidden matrices
	HeadLR      float64 `json:"head_lr" yaml:"head_lr"`           // an untied head; always AdamW
	OtherLR     float64 `json:"other_lr" yaml:"other_lr"`         // embedding, norms, residual; always AdamW
	MatrixDecay float64 `json:"matrix_decay" yaml:"matrix_decay"` // weight decay of matrices and the head
	Beta1       float64 `json:"beta1" yaml:"beta1"`
	Beta2       float64 `json:"beta2" yaml:"beta2"`
	Eps         float64 `json:"eps" yaml:"eps"`
	Momentum    float64 `json:"momentum" yaml:"momentum"` // of Muon
	Clip        float64 `json:"clip" yaml:"clip"`         // global gradient norm; 0 is none

	Schedule string  `json:"schedule" yaml:"schedule"` // "wsd" or "cosine"
	Warmup   int     `json:"warmup" yaml:"warmup"`     // steps
	Stable   float64 `json:"stable" yaml:"stable"`     // share of the steps before the decay (wsd)
	Floor    float64 `json:"floor" yaml:"floor"`       // last factor of the learning rate
}

// TokensPerStep is the number of targets in one optimizer step.
func (r Recipe) TokensPerStep() int { return r.Batch * r.Accum * r.Window }

// recipes by name. report is the run of the report that tern starts from, to
// the letter; default is what was measured to be better (docs/results/tiny.md).
var recipes = map[string]Recipe{
	"default": {
		Steps: 1400, Batch: 4, Accum: 1, Window: 256, Align: true, Seed: 1,
		Optimizer: "muon", MatrixLR: 0.03, HeadLR: 3e-3, OtherLR: 0.04, MatrixDecay: 0,
		Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Momentum: 0.95, Clip: 1,
		Schedule: "wsd", Warmup: 20, Stable: 0.5, Floor: 0.05,
	},
	"report": {
		Steps: 57635, Batch: 8, Accum: 4, Window: 256, Seed: 1,
		Optimizer: "adamw", MatrixLR: 3e-4, HeadLR: 3e-4, OtherLR: 1e-3, MatrixDecay: 0.1,
		Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Momentum: 0.95, Clip: 1,
		Schedule: "wsd", Warmup: 500, Stable: 0.8, Floor: 0.1,
	},
}

// Recipes returns the names of the recipes, sorted.
func Recipes() []string {
	names := make([]string, 0, len(recipes))
	for n := range recipes {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// LookupRecipe returns the named recipe.
func LookupRecipe(name string) (Recipe, error) {
	r, ok := recipes[name]
	if !ok {
		return r, errors.WithHint(errors.Wrapf(framework.ErrUnknown, "recipe %q", name), framework.Suggest(name, Recipes()))
	}
	return r, nil
}

// ReportModel changes the parts of c that the report's run fixes: f32 scales,
// the literal init of the residual, a ternary head, no extra norms.
func ReportModel(c model.Config) model.Config {
	c.Quant, c.Residual = "ternary:group=128,scale=f32", "mhclite:streams=2,init=report"
	c.Head, c.Tied, c.SubNorm = "ternary", false, false
	return c
}

// Validate reports the first thing that is wrong with r for model c.
func (r Recipe) Validate(c model.Config) error {
	bad := func(hint, format string, args ...any) error {
		return errors.WithHint(errors.Wrapf(ErrRecipe, format, args...), hint)
	}
	for _, f := range []struct {
		name       string
		value, max int
	}{
		{"steps", r.Steps, 1 << 40},
		{"batch", r.Batch, 1 << 16},
		{"accum", r.Accum, 1 << 16},
		{"window", r.Window, 1 << 20},
	} {
		if f.value < 1 || f.value > f.max {
			return bad("choose a value in that range", "%s is %d, wants 1 to %d", f.name, f.value, f.max)
		}
	}
	if r.Window > c.Context {
		return bad("lower window or raise context", "window %d is longer than the model's context %d", r.Window, c.Context)
	}
	if r.Warmup < 0 || r.Stride < 0 {
		return bad("0 is none", "warmup %d and stride %d must not be negative", r.Warmup, r.Stride)
	}
	for _, f := range []struct {
		name        string
		value, most float64
	}{
		{"matrix_lr", r.MatrixLR, 10},
		{"head_lr", r.HeadLR, 10},
		{"other_lr", r.OtherLR, 10},
		{"matrix_decay", r.MatrixDecay, 10},
		{"clip", r.Clip, 1e9},
		{"stable", r.Stable, 1},
		{"floor", r.Floor, 1},
		{"beta1", r.Beta1, 0.99999},
		{"beta2", r.Beta2, 0.999999},
		{"momentum", r.Momentum, 0.99999},
	} {
		if math.IsNaN(f.value) || f.value < 0 || f.value > f.most {
			return bad("choose a value in that range", "%s is %v, wants 0 to %v", f.name, f.value, f.most)
		}
	}
	if !(r.Eps >= 1e-30 && r.Eps <= 1) { // smaller is 0 in f32, and 0/0 where a gradient is 0
		return bad("1e-8 is usual", "eps is %v, wants 1e-30 to 1", r.Eps)
	}
	if s := []string{"adamw", "muon"}; !slices.Contains(s, r.Optimizer) {
		return bad(framework.Suggest(r.Optimizer, s), "optimizer %q", r.Optimizer)
	}
	if s := []string{"wsd", "cosine"}; !slices.Contains(s, r.Schedule) {
		return bad(framework.Suggest(r.Schedule, s), "schedule %q", r.Schedule)
	}
	return nil
}
