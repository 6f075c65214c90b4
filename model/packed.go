package model

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// NewPacked is New for weights that were quantized elsewhere, to codes of format
// f: c.Quant only names what did it, and nobody opens that. The model can be
// computed with (Pass.Packed) and not trained. f must be quantized.
func NewPacked(c Config, f framework.Format) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	err := f.Check()
	if err == nil && !f.Quantized() {
		err = errors.Wrap(framework.ErrFormat, "weights without codes")
	}
	if err != nil {
		return nil, errors.Wrapf(err, "quantizer %s", c.Quant)
	}
	return with(c, elsewhere{c.Quant, f}, true)
}

// elsewhere stands for a quantizer that is not here: weights have its format, and
// no more can be made.
type elsewhere struct {
	spec   string
	format framework.Format
}

// Spec is the spec of the one that it stands for.
func (q elsewhere) Spec() string { return q.spec }

// Format is that of the codes there are.
func (q elsewhere) Format() framework.Format { return q.format }

// Pack fails.
func (q elsewhere) Pack(*graph.Builder, graph.Value) (codes, scales graph.Value) {
	graph.Fail("%s: codes that were read from a file cannot be made anew", q.spec)
	return codes, scales
}
