package residual

import (
	"strconv"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

func init() {
	framework.Residuals.Register("scaled", func(o framework.Options) (framework.Residual, error) {
		init, err := o.Float("init", 1)
		return Scaled{Init: init}, err
	})
}

// Scaled is x + g F(x) with one learned scalar g a sub-layer.
type Scaled struct {
	Init float64 // the first value of g
}

// Spec returns "scaled:init=1".
func (r Scaled) Spec() string { return "scaled:init=" + strconv.FormatFloat(r.Init, 'g', -1, 64) }

// Expand returns x: the stream is [N,C].
func (Scaled) Expand(_ *graph.Builder, x graph.Value) graph.Value { return x }

// Read returns the stream.
func (Scaled) Read(_ *graph.Builder, _ int, s graph.Value) graph.Value { return s }

// Write adds y times the parameter scaled.gain [1].
func (r Scaled) Write(b *graph.Builder, _ int, s, y graph.Value) graph.Value {
	var g graph.Value
	b.In("scaled", func() { g = b.Param("gain", graph.ConstInit(r.Init), 1) })
	return b.Add(s, b.Mul(y, g))
}

// Collapse returns the stream.
func (Scaled) Collapse(_ *graph.Builder, s graph.Value) graph.Value { return s }
