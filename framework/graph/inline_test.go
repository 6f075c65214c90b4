package graph_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/graph"
)

// gate is code that builds a fragment with scopes and states of its own.
func gate(b *B, x graph.Value) (y graph.Value) {
	b.In("gate", func() {
		g := b.Param("gain", graph.ConstInit(1), 2)
		b.In("deep", func() { y = b.Mul(b.Sigmoid(x), g) })
	})
	return b.Add(y, b.Param("bias", graph.ConstInit(0), 2))
}

func TestInlinedTextIsThatOfTheCode(t *testing.T) {
	f, err := graph.Trace(func(b *B) { b.Output("y", gate(b, in(b, "x", 2))) })
	if err != nil {
		t.Fatal(err)
	}
	f, err = graph.Read(strings.NewReader(f.String())) // as it comes from elsewhere
	if err != nil {
		t.Fatal(err)
	}
	build := func(step func(b *B, x graph.Value) graph.Value) string {
		g, err := graph.Trace(func(b *B) {
			x := in(b, "p", 2)
			b.In("blk.0", func() { x = step(b, x) })
			x = b.Neg(x)
			b.In("blk.0", func() { x = step(b, x) }) // its states are there already
			b.Output("y", step(b, x))
		})
		if err != nil {
			t.Fatal(err)
		}
		return g.String()
	}
	want := build(gate)
	got := build(func(b *B, x graph.Value) graph.Value { return b.InlineAs("me", f, x)[0] })
	if got != want {
		t.Errorf("inlined\n%swant\n%s", got, want)
	}
}

func TestOwnedStatesAreNotShared(t *testing.T) {
	f, err := graph.Trace(func(b *B) { b.Output("y", b.Add(in(b, "x", 2), b.Param("w", graph.ConstInit(0), 2))) })
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		build func(b *B)
		fails bool
	}{
		"own, again":          {func(b *B) { b.InlineAs("me", f, b.InlineAs("me", f, in(b, "x", 2))[0]) }, false},
		"the model's":         {func(b *B) { b.Param("w", graph.ConstInit(0), 2); b.InlineAs("me", f, in(b, "x", 2)) }, true},
		"the model's, after":  {func(b *B) { b.InlineAs("me", f, in(b, "x", 2)); b.Param("w", graph.ConstInit(0), 2) }, true},
		"another's":           {func(b *B) { b.InlineAs("me", f, b.InlineAs("you", f, in(b, "x", 2))[0]) }, true},
		"nobody's, as before": {func(b *B) { b.Param("w", graph.ConstInit(0), 2); b.Inline(f, in(b, "x", 2)) }, false},
	} {
		if _, err := graph.Trace(c.build); (err != nil) != c.fails {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFailWithKeepsTheError(t *testing.T) {
	cause := errors.New("the disk is full")
	_, err := graph.Trace(func(b *B) { b.In("layer", func() { graph.FailWith(cause) }) })
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "the disk is full (in layer)") {
		t.Errorf("got %v", err)
	}
}

func TestABoundStateIsItsNewValue(t *testing.T) {
	g, err := graph.Trace(func(b *B) {
		w := b.GlobalParam("blk.w", graph.ConstInit(0), 2)
		next := b.Neg(w)
		b.Update(w, next)
		b.Bind(w, next)
		b.In("blk", func() { b.Output("y", b.Abs(b.Param("w", graph.ConstInit(0), 2))) })
	})
	want := `%0 = param() {"Name":"blk.w","Type":"f32[2]","Init":{}} : f32[2]
%1 = neg(%0) : f32[2]
%2 = abs(%1) : f32[2] @blk
output y %2
update %0 %1
`
	if err != nil || g.String() != want {
		t.Errorf("got %v\n%swant\n%s", err, g, want)
	}
	for name, build := range map[string]func(b *B){
		"no state":     func(b *B) { x := in(b, "x", 2); b.Bind(x, x) },
		"another type": func(b *B) { b.Bind(b.Param("w", graph.ConstInit(0), 2), in(b, "x", 3)) },
	} {
		if _, err := graph.Trace(build); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
