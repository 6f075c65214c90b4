package main

import (
	"testing"

	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

func TestSizesOfTheReferenceModel(t *testing.T) {
	c, err := model.Preset("nano-125m")
	if err != nil {
		t.Fatal(err)
	}
	s, err := sizes(c)
	if err != nil {
		t.Fatal(err)
	}
	blocks, head := 12*(4*768*768+3*768*2048), 50257*768
	if s.parameters != 162_148_824 || s.ternary != float64(blocks+head) || s.floats != 0 {
		t.Errorf("%d parameters, %v ternary, %v floats", s.parameters, s.ternary, s.floats)
	}
	// 2 bits a weight and 16 for each 128.
	if w := (work{Int8: 2 * float64(blocks+head), Bytes: 2.125 / 8 * float64(blocks+head)}); s.token != w {
		t.Errorf("a token takes %+v, want %+v", s.token, w)
	}
}

func TestAnInt8HeadTakesItsOwnBytes(t *testing.T) {
	c, err := model.Preset("nano-125m")
	if err != nil {
		t.Fatal(err)
	}
	c.Head = model.HeadInt8
	s, err := sizes(c)
	if err != nil {
		t.Fatal(err)
	}
	// 8 bits a weight and 16 for each 32.
	if n := 50257.0 * 768; s.head != (work{Int8: 2 * n, Bytes: 8.5 / 8 * n}) {
		t.Errorf("the head takes %+v for %v weights", s.head, n)
	}
}

func TestAPromptTakesTheAttentionOfItsTokens(t *testing.T) {
	for _, preset := range []string{"nano-125m", "tiny"} {
		c, err := model.Preset(preset)
		if err != nil {
			t.Fatal(err)
		}
		s, err := sizes(c)
		if err != nil {
			t.Fatal(err)
		}
		const n = 100
		var sum work
		for i := range n {
			sum = sum.plus(s.decodeWork(float64(i)))
		}
		// The head's logits are those of the last token only.
		got := s.promptWork(n)
		if want := sum.Int8 - (n-1)*s.head.Int8; got.Int8 != want {
			t.Errorf("%s: %v int8 operations, want %v", preset, got.Int8, want)
		}
		if want := sum.F32 - (n-1)*s.head.F32; got.F32 != want {
			t.Errorf("%s: %v f32 operations, want %v", preset, got.F32, want)
		}
		if got.Bytes >= sum.Bytes || got.Bytes < s.token.Bytes {
			t.Errorf("%s: %v bytes, one by one %v", preset, got.Bytes, sum.Bytes)
		}
	}
}

// products counts the multiplications and additions of the matrix products in
// a graph of primitives.
func products(t *testing.T, g *graph.Graph) (flops float64) {
	t.Helper()
	low, err := compile.Lower(g, func(n *graph.Node) bool { return n.Op.Expand == nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range low.Nodes {
		if n.Op.Name != "matmul" {
			continue
		}
		x, z := n.In[0].Shape(), n.Out[0].Shape
		inner := x[len(x)-1]
		if n.Attr.(graph.MatMulAttr).TransX {
			inner = x[len(x)-2]
		}
		flops += 2 * float64(z.Numel()) * float64(inner)
	}
	return flops
}

// The training graph in primitives, counted: it multiplies by all of the
// scores where a kernel leaves out those above the diagonal.
func TestTrainingTakesTheProductsOfItsGraph(t *testing.T) {
	c, err := model.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	c.Quant, c.Residual, c.Layers = "none", "standard", 2
	r, err := train.LookupRecipe("default")
	if err != nil {
		t.Fatal(err)
	}
	r.Batch, r.Accum, r.Window, r.Optimizer = 2, 1, 16, "adamw"
	m, err := model.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sizes(c)
	if err != nil {
		t.Fatal(err)
	}
	g, err := m.Accumulate(r.Batch, r.Window, 1)
	if err != nil {
		t.Fatal(err)
	}
	n, T := float64(r.TokensPerStep()), float64(r.Window)
	above := n * 3 * s.attention * (T - (T+1)/2)
	if got, want := s.trainWork(r, 0).F32+above, products(t, g); got != want {
		t.Errorf("%v operations, the graph has %v", got, want)
	}

	g, err = train.Apply(m, r)
	if err != nil {
		t.Fatal(err)
	}
	if adam := products(t, g); adam != 0 {
		t.Errorf("AdamW multiplies matrices: %v", adam)
	}
	r.Optimizer = "muon"
	if g, err = train.Apply(m, r); err != nil {
		t.Fatal(err)
	}
	muon, err := muonWork(c, r)
	if want := products(t, g); err != nil || muon != want {
		t.Errorf("Muon takes %v operations (error %v), its graph has %v", muon, err, want)
	}
}
