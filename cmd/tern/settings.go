package main

import (
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/internal/config"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/tokenizer"
	"github.com/ternlm/tern/train"
)

// settings are everything that a training run can be told.
type settings struct {
	Preset     string
	RecipeName string
	Model      model.Config
	Recipe     train.Recipe
	Run        runSettings

	set        *config.Set
	configFile string
}

// runSettings say where a run reads, writes and computes; they do not change
// what is computed.
type runSettings struct {
	Data, Valid  string
	Backend      string
	Precision    string
	Threads      int
	Out          string
	Resume       string
	SaveEvery    int
	EvalEvery    int
	LogEvery     int
	Keep         int
	EvalWindows  int
	FinalWindows int
	TimeLimit    time.Duration
	Prompt       string
}

// Names of the keys that presets and recipes set.
var (
	modelKeys = []string{
		"tokenizer", "dim", "layers", "heads", "kv_heads", "ffn", "context", "rope_theta", "norm_eps",
		"quant", "residual", "head", "tied", "sub_norm",
	}
	reportKeys = []string{"quant", "residual", "head", "tied", "sub_norm"}
	recipeKeys = []string{
		"steps", "batch", "accum", "window", "stride", "align", "seed", "optimizer", "matrix_lr", "head_lr", "other_lr",
		"matrix_decay", "beta1", "beta2", "eps", "momentum", "clip", "schedule", "warmup", "stable", "floor",
	}
)

// Variables that are no settings.
const (
	configVariable = "TERN_CONFIG"      // --config
	pluginVariable = "TERN_PLUGIN_PATH" // reserved: directories of plugins
)

// newSettings returns the settings with their flags defined.
func newSettings() *settings {
	s := &settings{set: config.New("TERN_", configVariable, pluginVariable)}
	fs := s.set.Flags()
	fs.SortFlags = false
	fs.StringVar(&s.Preset, "preset", "tiny", "model to start from: "+strings.Join(model.Presets(), ", "))
	fs.StringVar(&s.RecipeName, "recipe", "default", "recipe to start from: "+strings.Join(train.Recipes(), ", ")+
		"; report also sets the model's parts as the report has them")
	s.modelFlags(fs)
	s.recipeFlags(fs)
	s.runFlags(fs)
	return s
}

func (s *settings) modelFlags(fs *pflag.FlagSet) {
	m := &s.Model
	fs.StringVar(&m.Tokenizer, "tokenizer", "", "gpt2, or gpt2:N for its first N ranks; the vocabulary has N tokens")
	fs.IntVar(&m.Dim, "dim", 0, "width of the model")
	fs.IntVar(&m.Layers, "layers", 0, "blocks")
	fs.IntVar(&m.Heads, "heads", 0, "query heads")
	fs.IntVar(&m.KVHeads, "kv-heads", 0, "key and value heads")
	fs.IntVar(&m.FFN, "ffn", 0, "hidden width of the feed-forward layers")
	fs.IntVar(&m.Context, "context", 0, "most tokens of a sequence")
	fs.Float64Var(&m.RoPETheta, "rope-theta", 0, "base of the rotary positions")
	fs.Float64Var(&m.NormEps, "norm-eps", 0, "epsilon of the norms")
	fs.StringVar(&m.Quant, "quant", "", "quantizer of the linear layers, such as ternary:group=128 or none")
	fs.StringVar(&m.Residual, "residual", "", "residual, such as mhclite:streams=2, scaled or standard")
	fs.StringVar(&m.Head, "head", "", "output layer: ternary, which is quantized as the linear layers are (--quant), int8 or f16")
	fs.BoolVar(&m.Tied, "tied", false, "the output layer is the embedding")
	fs.BoolVar(&m.SubNorm, "sub-norm", false, "norms before the last matrix of each sub-layer")
}

func (s *settings) recipeFlags(fs *pflag.FlagSet) {
	r := &s.Recipe
	fs.IntVar(&r.Steps, "steps", 0, "optimizer steps")
	fs.IntVar(&r.Batch, "batch", 0, "windows in a micro-batch")
	fs.IntVar(&r.Accum, "accum", 0, "micro-batches in a step")
	fs.IntVar(&r.Window, "window", 0, "tokens in a window")
	fs.IntVar(&r.Stride, "stride", 0, "tokens from one window to the next; 0 is window+1")
	fs.BoolVar(&r.Align, "align", false, "windows start at stories")
	fs.Uint64Var(&r.Seed, "seed", 0, "of the first weights and the order of the windows")
	fs.StringVar(&r.Optimizer, "optimizer", "", "adamw, or muon for hidden matrices")
	fs.Float64Var(&r.MatrixLR, "matrix-lr", 0, "learning rate of hidden matrices")
	fs.Float64Var(&r.HeadLR, "head-lr", 0, "learning rate of an untied output layer")
	fs.Float64Var(&r.OtherLR, "other-lr", 0, "learning rate of embedding, norms and residual")
	fs.Float64Var(&r.MatrixDecay, "matrix-decay", 0, "weight decay of matrices")
	fs.Float64Var(&r.Beta1, "beta1", 0, "of AdamW")
	fs.Float64Var(&r.Beta2, "beta2", 0, "of AdamW")
	fs.Float64Var(&r.Eps, "eps", 0, "of AdamW")
	fs.Float64Var(&r.Momentum, "momentum", 0, "of Muon")
	fs.Float64Var(&r.Clip, "clip", 0, "most global norm of the gradient; 0 is no limit")
	fs.StringVar(&r.Schedule, "schedule", "", "wsd or cosine")
	fs.IntVar(&r.Warmup, "warmup", 0, "steps until the learning rate is full")
	fs.Float64Var(&r.Stable, "stable", 0, "share of the steps before the decay (wsd)")
	fs.Float64Var(&r.Floor, "floor", 0, "last factor of the learning rate")
}

func (s *settings) runFlags(fs *pflag.FlagSet) {
	r := &s.Run
	fs.StringVar(&r.Data, "data", "", "token file to train on; without it the embedded stories")
	fs.StringVar(&r.Valid, "valid", "", "token file to evaluate on; without it the embedded validation stories")
	fs.StringVar(&r.Backend, "backend", "auto", backendUsage)
	fs.StringVar(&r.Precision, "precision", "", precisionUsage)
	fs.IntVar(&r.Threads, "threads", 0, threadsUsage)
	fs.StringVar(&r.Out, "out", "", "directory of the run; without it runs/PRESET-DATE-TIME")
	fs.StringVar(&r.Resume, "resume", "none", "auto goes on from the newest checkpoint of the run; or name a run or a checkpoint")
	fs.IntVar(&r.SaveEvery, "save-every", 0, "steps between checkpoints; 0 chooses, -1 is only at the end")
	fs.IntVar(&r.EvalEvery, "eval-every", 0, "steps between evaluations; 0 chooses, -1 is only at the end")
	fs.IntVar(&r.LogEvery, "log-every", 0, "steps between lines of metrics; 0 chooses")
	fs.IntVar(&r.Keep, "keep", 3, "checkpoints kept; 0 keeps all")
	fs.IntVar(&r.EvalWindows, "eval-windows", 32, "windows of an evaluation on the way; 0 is all")
	fs.IntVar(&r.FinalWindows, "final-windows", 512, "windows of the evaluation at the end; 0 is all")
	fs.DurationVar(&r.TimeLimit, "time-limit", 0, "save and stop with status 75 after this time, such as 3h50m; 0 is no limit")
	fs.StringVar(&r.Prompt, "prompt", "Once upon a time", "how the story at the end begins")
}

// addTo defines the flags on a command's flag set, with --config.
func (s *settings) addTo(fs *pflag.FlagSet) { s.addSome(fs, s.set.Keys()) }

// addSome is addTo for some of the keys.
func (s *settings) addSome(fs *pflag.FlagSet, keys []string) {
	fs.SortFlags = false
	fs.StringVar(&s.configFile, "config", "", "YAML file with values of the flags of tern train, one \"key: value\" a line")
	for _, k := range keys {
		fs.AddFlag(s.set.Flag(k))
	}
}

// load collects the layers. It comes before resolve.
func (s *settings) load(a *app) error {
	file := s.configFile
	if file == "" {
		file = a.getenv(configVariable)
	}
	return s.set.Load(file, a.environ)
}

// resolve sets every value. What a checkpoint holds, if it is not nil, stands
// in for the preset and recipe that nobody named.
func (s *settings) resolve(from *resolved) error {
	preset, recipe := s.set.Value("preset"), s.set.Value("recipe")
	_, presetGiven := s.set.Given("preset")
	_, recipeGiven := s.set.Given("recipe")
	origin := config.Origin{Layer: "preset", Detail: preset}
	var err error
	if s.Model, err = model.Preset(preset); err != nil {
		return err
	}
	if from != nil && !presetGiven {
		s.Model, origin = from.Model, config.Origin{Layer: "checkpoint"}
	}
	s.set.Base(origin, modelKeys...)

	origin = config.Origin{Layer: "recipe", Detail: recipe}
	if s.Recipe, err = train.LookupRecipe(recipe); err != nil {
		return err
	}
	switch {
	case from != nil && !recipeGiven:
		s.Recipe, origin = from.Recipe, config.Origin{Layer: "checkpoint"}
	case recipe == "report":
		s.Model = train.ReportModel(s.Model)
		s.set.Base(origin, reportKeys...)
	}
	s.set.Base(origin, recipeKeys...)
	if err := s.set.Apply(); err != nil {
		return err
	}
	tok, err := tokenizer.Open(s.Model.Tokenizer)
	if err != nil {
		return err
	}
	s.Model.Tokenizer, s.Model.Vocab = tok.Name(), tok.Vocab()
	return s.normalize()
}

// openBackend opens the chosen backend.
func (s *settings) openBackend(a *app) (framework.Backend, error) {
	_, given := s.set.Given("threads")
	return a.openChosen(s.Run.Backend, s.Run.Precision, s.Run.Threads, given)
}

// normalize writes specs as their owners write them, so that equal settings
// are equal text.
func (s *settings) normalize() error {
	if err := checkPrompt(s.Run.Prompt); err != nil {
		return err
	}
	q, err := framework.Quantizers.Open(s.Model.Quant)
	if err != nil {
		return err
	}
	r, err := framework.Residuals.Open(s.Model.Residual)
	if err != nil {
		return err
	}
	s.Model.Quant, s.Model.Residual = q.Spec(), r.Spec()
	if err := s.Model.Validate(); err != nil {
		return err
	}
	return s.Recipe.Validate(s.Model)
}

// interval gives the steps between events: every if it is set, none for a
// negative one, else a part of all steps within bounds.
func interval(every, steps, part, most int) int {
	switch {
	case every > 0:
		return every
	case every < 0:
		return 0
	}
	return max(1, min(steps/part, most))
}
