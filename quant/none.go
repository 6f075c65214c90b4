package quant

import (
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

func init() {
	framework.Quantizers.Register("none", func(framework.Options) (framework.Quantizer, error) { return None{}, nil })
}

// None leaves weights in f32.
type None struct{}

// Spec returns "none".
func (None) Spec() string { return "none" }

// Format is the format that is not quantized.
func (None) Format() framework.Format { return framework.Format{} }

// Pack is a misuse: weights of this format are never packed.
func (None) Pack(*graph.Builder, graph.Value) (codes, scales graph.Value) {
	graph.Fail("quantizer none packs no weights")
	return
}
