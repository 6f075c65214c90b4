package residual

import (
	"fmt"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

func init() {
	framework.Residuals.Register("ihc", func(o framework.Options) (framework.Residual, error) {
		n, err := streamsOption(o, 2, 4)
		if err != nil {
			return nil, err
		}
		return open(unmixed{n}, o)
	})
}

// unmixed is H of iHC (identity hyper-connections, arXiv 2607.28611): the
// identity. Streams meet only in what a sub-layer reads of them and writes to
// them, by pre and post. There are no logits of H, and no gate for them: a
// sub-layer has 2n^2 C weights, nC gains and 2n+2 biases and gates.
type unmixed struct{ streams int }

// Spec returns "ihc:streams=2".
func (r unmixed) Spec() string { return fmt.Sprintf("ihc:streams=%d", r.streams) }

// Width returns the number of streams.
func (r unmixed) Width() int { return r.streams }

// DoublyStochastic is true: the identity is a permutation.
func (r unmixed) DoublyStochastic() bool { return true }

func (r unmixed) logits() []float64 { return nil }

func (r unmixed) matrix(b *graph.Builder, _ graph.Value) graph.Value {
	return b.ConstList(identity(r.streams), r.streams, r.streams)
}
