package model_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

func open(t *testing.T, preset string, change func(*model.Config)) *model.Model {
	t.Helper()
	c, err := model.Preset(preset)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&c)
	}
	m, err := model.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The figures of the report that the preset comes from.
func TestNanoHasTheParametersOfTheReport(t *testing.T) {
	ps, err := open(t, "nano-125m", nil).Parameters()
	if err != nil {
		t.Fatal(err)
	}
	by, total := model.Count(ps)
	for c, want := range map[model.Category]int{
		model.Ternary: 123_532_032, model.Embedded: 38_597_376, model.NormGain: 19_200, model.Residuals: 216, model.Linear: 0,
	} {
		if by[c] != want {
			t.Errorf("%s: %d parameters, want %d", c, by[c], want)
		}
	}
	if total != 162_148_824 {
		t.Errorf("%d parameters, want 162148824", total)
	}
}

func TestGroupedQueriesTiedHeadAndSubNormsChangeTheParameters(t *testing.T) {
	count := func(change func(*model.Config)) (map[model.Category]int, int) {
		ps, err := open(t, "nano-125m", change).Parameters()
		if err != nil {
			t.Fatal(err)
		}
		return model.Count(ps)
	}
	_, all := count(nil)
	if _, n := count(func(c *model.Config) { c.KVHeads = 3 }); all-n != 12*2*768*(768-192) {
		t.Errorf("3 key heads save %d parameters", all-n)
	}
	if _, n := count(func(c *model.Config) { c.Head, c.Tied = "f16", true }); all-n != 50257*768 {
		t.Errorf("a tied head saves %d parameters", all-n)
	}
	if by, n := count(func(c *model.Config) { c.Head = "f16" }); n != all || by[model.Linear] != 50257*768 {
		t.Errorf("an f16 head gives %d parameters, %d of them linear", n, by[model.Linear])
	}
	if _, n := count(func(c *model.Config) { c.SubNorm = true }); n-all != 12*(768+2048) {
		t.Errorf("sub-norms add %d parameters", n-all)
	}
	if by, _ := count(func(c *model.Config) { c.Residual = "mhclite:streams=4" }); by[model.Residuals] != 24*40 {
		t.Errorf("four streams have %d parameters, want 960", by[model.Residuals])
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*model.Config){
		"heads do not divide dim":       func(c *model.Config) { c.Heads = 7 },
		"odd head width":                func(c *model.Config) { c.Dim, c.Heads, c.KVHeads = 12, 4, 4 },
		"key heads do not divide heads": func(c *model.Config) { c.KVHeads = 5 },
		"no layers":                     func(c *model.Config) { c.Layers = 0 },
		"endless layers":                func(c *model.Config) { c.Layers = 1 << 30 },
		"negative vocabulary":           func(c *model.Config) { c.Vocab = -1 },
		"ragged group":                  func(c *model.Config) { c.FFN = 2000 },
		"unknown head":                  func(c *model.Config) { c.Head = "int4" },
		"tied ternary head":             func(c *model.Config) { c.Tied = true },
		"tied int8 head":                func(c *model.Config) { c.Head, c.Tied = "int8", true },
		"int8 head of a ragged width":   func(c *model.Config) { c.Quant, c.Head, c.Dim = "none", "int8", 720 },
		"zero epsilon":                  func(c *model.Config) { c.NormEps = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := model.Preset("nano-125m")
			change(&c)
			if _, err := model.New(c); !errors.Is(err, model.ErrConfig) {
				t.Errorf("error %v, want ErrConfig", err)
			}
		})
	}
	c, _ := model.Preset("nano-125m")
	c.Quant = "ternery"
	if _, err := model.New(c); !errors.Is(err, framework.ErrUnknown) {
		t.Errorf("unknown quantizer: %v", err)
	}
	if _, err := model.Preset("nano-126m"); !errors.Is(err, framework.ErrUnknown) {
		t.Errorf("unknown preset: %v", err)
	}
}

// A head of int8 has codes of its own format, whatever the linears have.
func TestAnInt8HeadHasBytesWithAScaleForEach32(t *testing.T) {
	for _, spec := range []string{"ternary:group=128", "int4:group=row", "int8:group=64", "none"} {
		m := open(t, "nano-125m", func(c *model.Config) { c.Quant, c.Head = spec, "int8" })
		g, err := m.LossOf(1, 1, model.Pass{Packed: true, F16: true})
		if err != nil {
			t.Fatal(err)
		}
		types := map[string]tensor.Type{}
		for _, n := range g.States {
			types[n.Name()] = n.Out[0]
		}
		codes, scales := tensor.T(tensor.I8, 50257, 768), tensor.T(tensor.F32, 50257, 24)
		if !types["lm_head.codes"].Equal(codes) || !types["lm_head.scales"].Equal(scales) {
			t.Errorf("%s: codes %v, scales %v", spec, types["lm_head.codes"], types["lm_head.scales"])
		}
		if linear := types["blk.0.attn.wq.codes"]; spec != "none" && linear.DType != m.Quantizer().Format().Code() {
			t.Errorf("%s: a linear's codes are %v", spec, linear)
		}
		if ps, err := m.Parameters(); err != nil || ps[len(ps)-1].Name != "lm_head.weight" || ps[len(ps)-1].Category != model.Ternary {
			t.Errorf("%s: the last parameter is %+v, %v", spec, ps[len(ps)-1], err)
		}
	}
}

// A train step of the reference size must fit in the memory of a small
// machine, and decoding must run in its caches.
func TestArenaOfTheReferenceModel(t *testing.T) {
	m := open(t, "nano-125m", nil)
	native := func(*graph.Node) bool { return true }
	for _, c := range []struct {
		name  string
		trace func() (*graph.Graph, error)
		mib   float64
	}{
		{"train 8x256", func() (*graph.Graph, error) { return m.Accumulate(8, 256, 4) }, 2600},
		{"decode", func() (*graph.Graph, error) { return m.Step(1, 1, 2048, model.Pass{Packed: true, F16: true}) }, 1},
	} {
		g, err := c.trace()
		if err != nil {
			t.Fatal(err)
		}
		low, err := compile.Lower(g, native)
		if err != nil {
			t.Fatal(err)
		}
		p := compile.Place(low, 64, nil)
		mib := float64(p.Arena) / (1 << 20)
		t.Logf("%s: %d nodes, arena %.1f MiB, %.1f MiB if nothing were shared", c.name, len(low.Nodes), mib, float64(p.Naive)/(1<<20))
		if mib > c.mib {
			t.Errorf("%s: arena of %.1f MiB, want at most %v", c.name, mib, c.mib)
		}
	}
}

// Whatever the head, its logits are not a value of the graph of the loss.
func TestLossIsOneOpWithTheHead(t *testing.T) {
	tied := func(c *model.Config) { c.Head, c.Tied = "f16", true }
	half := func(c *model.Config) { c.Head = "f16" }
	int8 := func(c *model.Config) { c.Quant, c.Head = "none", "int8" }
	for name, c := range map[string]struct {
		change func(*model.Config)
		pass   model.Pass
		op     string
	}{
		"ternary":          {nil, model.Pass{}, "bitlinearcrossentropy"},
		"ternary, packed":  {nil, model.Pass{Packed: true}, "codebookcrossentropy"},
		"int8":             {int8, model.Pass{}, "bitlinearcrossentropy"},
		"int8, packed":     {int8, model.Pass{Packed: true, F16: true}, "codebookcrossentropy"},
		"f16":              {half, model.Pass{}, "linearcrossentropy"},
		"f16, from a file": {half, model.Pass{Packed: true, F16: true}, "linearcrossentropy"},
		"tied":             {tied, model.Pass{}, "linearcrossentropy"},
		"tied, stored":     {tied, model.Pass{Packed: true, F16: true}, "linearcrossentropy"},
	} {
		m := open(t, "nano-125m", c.change)
		g, err := m.LossOf(2, 8, c.pass)
		if err != nil {
			t.Fatal(err)
		}
		if last := g.Nodes[len(g.Nodes)-1]; last.Op.Name != c.op {
			t.Errorf("%s: the last op is %s, want %s", name, last.Op.Name, c.op)
		}
		for _, n := range g.Nodes {
			if s := n.Out[0].Shape; slices.Equal(s, []int{16, m.Vocab}) {
				t.Errorf("%s: %s makes the logits", name, n.Op.Name)
			}
		}
	}
}
