package plugins

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/data/tinystories"
	"github.com/ternlm/tern/diagnose"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/quanttest"
	"github.com/ternlm/tern/framework/residualtest"
	"github.com/ternlm/tern/model"
	_ "github.com/ternlm/tern/quant"
	_ "github.com/ternlm/tern/residual"
	"github.com/ternlm/tern/train"
)

// builtin serves the built-in of a name.
func builtin(name string) Quantizer {
	return Quantizer{
		Meta: Meta{Name: name, Version: "1.0.0", Help: "The built-in " + name + ".", Options: []Option{
			{Name: "group", Type: "string", Default: "128", Help: "weights a scale"},
			{Name: "scale", Type: "choice", Default: "f16", Choices: []string{"f16", "f32"}, Help: "type of the scales"},
		}},
		Open: func(o framework.Options) (framework.Quantizer, error) {
			group, scale := o.String("group", "128"), o.String("scale", "f16")
			return framework.Quantizers.Open(name + ":group=" + group + ",scale=" + scale)
		},
	}
}

func builtinResidual(name string, option, def string) Residual {
	return Residual{
		Meta: Meta{Name: name, Version: "1.0.0", Help: "The built-in " + name + "."},
		Open: func(o framework.Options) (framework.Residual, error) {
			if option == "" {
				return framework.Residuals.Open(name)
			}
			return framework.Residuals.Open(name + ":" + option + "=" + o.String(option, def))
		},
	}
}

func init() {
	asPlugin["ternary"] = func() { ServeQuantizer(builtin("ternary")) }
	asPlugin["int4"] = func() { ServeQuantizer(builtin("int4")) }
	asPlugin["mhclite"] = func() {
		ServeResidual(Residual{
			Meta: Meta{Name: "mhclite", Version: "1.0.0", Help: "The built-in mhclite."},
			Open: func(o framework.Options) (framework.Residual, error) {
				return framework.Residuals.Open("mhclite:streams=" + o.String("streams", "2") + ",init=" + o.String("init", "paper"))
			},
		})
	}
	asPlugin["scaled"] = func() { ServeResidual(builtinResidual("scaled", "init", "1")) }
	asPlugin["standard"] = func() { ServeResidual(builtinResidual("standard", "", "")) }
	running := map[string]*Client{}
	framework.Quantizers.Delegate("plugin", func(rest string) (framework.Quantizer, error) {
		name, options, _ := strings.Cut(rest, ":")
		return running[name].Quantizer(options)
	})
	framework.Residuals.Delegate("plugin", func(rest string) (framework.Residual, error) {
		name, options, _ := strings.Cut(rest, ":")
		return running[name].Residual(options)
	})
	runningPlugins = running
}

// runningPlugins are those that specs plugin:NAME find, by name.
var runningPlugins map[string]*Client

// dial starts the named program.
func dial(t testing.TB, name string, change ...func(*DialOptions)) *Client {
	t.Helper()
	o := DialOptions{Path: program(t, name), Start: 30 * time.Second}
	for _, f := range change {
		f(&o)
	}
	c, err := Dial(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	runningPlugins[c.info.Name] = c
	return c
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestQuantizersPassTheirSuiteOverTheWire(t *testing.T) {
	for name, options := range map[string][]string{"ternary": {"", "group=256", "group=row", "group=tensor,scale=f32"}, "int4": {"group=32"}} {
		c := dial(t, name)
		for _, o := range options {
			t.Run(name+":"+o, func(t *testing.T) {
				quanttest.Run(t, quanttest.Options{
					Open:    func() (framework.Quantizer, error) { return c.Quantizer(o) },
					Backend: func() (framework.Backend, error) { return framework.Backends.Open("scalar") },
				})
			})
		}
	}
}

func TestResidualsPassTheirSuiteOverTheWire(t *testing.T) {
	for name, options := range map[string][]string{"mhclite": {"", "streams=4", "streams=4,init=report"}, "scaled": {"", "init=0.5"}, "standard": {""}} {
		c := dial(t, name)
		for _, o := range options {
			t.Run(name+":"+o, func(t *testing.T) {
				residualtest.Run(t, residualtest.Options{
					Open:      func() (framework.Residual, error) { return c.Residual(o) },
					Backend64: func() (framework.Backend, error) { return scalar.Open64(1), nil },
				})
			})
		}
	}
}

// config is a model that trains in moments.
func config(quant, residual string) model.Config {
	return model.Config{
		Tokenizer: "gpt2:512", Vocab: 512, Dim: 64, Layers: 2, Heads: 2, KVHeads: 1, FFN: 128, Context: 64, RoPETheta: 10000, NormEps: 1e-6,
		Quant: quant, Residual: residual, Head: "ternary", SubNorm: true,
	}
}

func small(t testing.TB, quant, residual string) *model.Model {
	t.Helper()
	m, err := model.New(config(quant, residual))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// graphs are the texts of everything a model is traced to.
func graphs(t *testing.T, m *model.Model) map[string]string {
	t.Helper()
	texts := map[string]string{}
	add := func(name string, g *graph.Graph, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if g != nil {
			texts[name] = g.String()
		}
	}
	g, err := m.Loss(2, 8, false)
	add("loss", g, err)
	g, err = m.Loss(2, 8, true)
	add("packed loss", g, err)
	g, err = m.Accumulate(2, 8, 2)
	add("accumulate", g, err)
	g, err = m.Step(1, 4, 16, model.Pass{Packed: true, F16: true})
	add("step", g, err)
	g, err = m.Pack()
	add("pack", g, err)
	g, err = diagnose.Trace(m, 1, 8, model.Pass{Packed: true})
	add("diagnosis", g, err)
	g, err = train.Apply(m, must(train.LookupRecipe("default")))
	add("apply", g, err)
	return texts
}

// trained are the losses of a few steps, and the parameters and scales after them.
func trained(t *testing.T, m *model.Model) (losses []float64, params map[string][]float32) {
	t.Helper()
	ctx := context.Background()
	be := must(framework.Backends.Open("scalar:threads=2"))
	defer func() { _ = be.Close() }()
	r := must(train.LookupRecipe("default"))
	r.Steps, r.Batch, r.Accum, r.Window, r.Warmup = 4, 2, 2, 16, 1
	tr := must(train.New(ctx, be, m, r))
	if err := tr.Initialize(ctx); err != nil {
		t.Fatal(err)
	}
	src := must(r.Batches(must(data.TokenizeText(ctx, must(tinystories.Valid())[:20_000], "gpt2:512"))))
	for range r.Steps {
		s, err := tr.Step(ctx, src)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, s.Loss)
	}
	params = map[string][]float32{}
	for _, p := range must(m.Parameters()) {
		params[p.Name] = must(tr.Store().Get(ctx, p.Name)).F32()
		if base, ok := strings.CutSuffix(p.Name, ".weight"); ok && p.Category == model.Ternary {
			params[base+".scales"] = must(tr.Store().Get(ctx, base+".scales")).F32()
		}
	}
	return losses, params
}

func TestARemoteModelIsTheBuiltIn(t *testing.T) {
	for _, name := range []string{"ternary", "mhclite", "standard", "scaled"} {
		dial(t, name)
	}
	for _, parts := range [][2]string{
		{"ternary:group=64", "mhclite:streams=2"},
		{"ternary:group=row,scale=f32", "mhclite:streams=4,init=report"},
		{"ternary:group=32", "standard"},
		{"ternary:group=64", "scaled:init=0.5"},
	} {
		t.Run(parts[0]+" "+parts[1], func(t *testing.T) {
			local, remote := small(t, parts[0], parts[1]), small(t, "plugin:"+parts[0], "plugin:"+parts[1])
			if got, want := remote.Quant, "plugin:"+local.Quant; got != want {
				t.Errorf("spec %s, want %s", got, want)
			}
			if got, want := remote.Config.Residual, "plugin:"+local.Config.Residual; got != want {
				t.Errorf("spec %s, want %s", got, want)
			}
			got := graphs(t, remote)
			for name, want := range graphs(t, local) {
				if got[name] != want {
					t.Errorf("%s differs: %s", name, firstDifference(got[name], want))
				}
			}
			wantLosses, wantParams := trained(t, local)
			losses, params := trained(t, remote)
			for i := range wantLosses {
				if losses[i] != wantLosses[i] {
					t.Errorf("step %d: loss %v, built in %v", i, losses[i], wantLosses[i])
				}
			}
			for name, want := range wantParams {
				for i := range want {
					if params[name][i] != want[i] {
						t.Fatalf("%s[%d] is %v, built in %v", name, i, params[name][i], want[i])
					}
				}
			}
		})
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return "remote " + x[i] + ", built in " + y[i]
		}
	}
	return "lengths"
}

func TestAModelIsTracedWithFewCalls(t *testing.T) {
	dial(t, "ternary")
	c := dial(t, "mhclite")
	m := small(t, "plugin:ternary:group=64", "plugin:mhclite")
	g1 := must(m.Accumulate(2, 8, 1)).String()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if g2, err := m.Accumulate(2, 8, 1); err != nil || g2.String() != g1 {
		t.Errorf("what was traced before asks the plugin again: %v", err)
	}
	if _, err := m.Accumulate(4, 8, 1); !errors.Is(err, ErrDied) || !errors.Is(err, ErrPlugin) {
		t.Errorf("after Close: %v, want ErrDied", err)
	}
}

func TestInfoAndOptionsComeOver(t *testing.T) {
	c := dial(t, "ternary")
	i := c.Info()
	if i.Kind != KindQuantizer || i.Name != "ternary" || i.Version != "1.0.0" || i.Protocol != Protocol || len(i.SHA256) != 64 || len(i.Options) != 2 || i.Options[1].Choices[1] != "f32" {
		t.Errorf("got %+v", i)
	}
	for _, options := range []string{"group=0", "groups=3", "scale=f64", "group"} {
		_, err := c.Quantizer(options)
		if !errors.Is(err, framework.ErrOption) || !errors.Is(err, ErrPlugin) {
			t.Errorf("%q: %v, want ErrOption", options, err)
		}
	}
	if _, err := c.Residual(""); !errors.Is(err, ErrPlugin) {
		t.Errorf("a quantizer opens as a residual: %v", err)
	}
}
