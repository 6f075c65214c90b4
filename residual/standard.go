package residual

import (
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

func init() {
	framework.Residuals.Register("standard", func(framework.Options) (framework.Residual, error) { return Standard{}, nil })
}

// Standard is x + F(x).
type Standard struct{}

// Spec returns "standard".
func (Standard) Spec() string { return "standard" }

// Expand returns x: the stream is [N,C].
func (Standard) Expand(_ *graph.Builder, x graph.Value) graph.Value { return x }

// Read returns the stream.
func (Standard) Read(_ *graph.Builder, _ int, s graph.Value) graph.Value { return s }

// Write adds y.
func (Standard) Write(b *graph.Builder, _ int, s, y graph.Value) graph.Value { return b.Add(s, y) }

// Collapse returns the stream.
func (Standard) Collapse(_ *graph.Builder, s graph.Value) graph.Value { return s }
