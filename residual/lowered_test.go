package residual_test

import (
	"fmt"
	"testing"

	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Read and Write compute the same coefficients, each on its own. In what runs
// they are there once: the product of the weights and the normalized streams, and
// its pullback.
func TestCoefficientsAreComputedOnce(t *testing.T) {
	const layers = 3
	for _, spec := range []string{"mhclite:streams=4,mode=dynamic", "mhc:streams=2", "kromhc:streams=8", "ihc:streams=4", "hc:streams=2"} {
		r := open(t, spec)
		g := trace(t, func(b *graph.Builder) {
			x := b.Mul(b.Input("x", tensor.F32, 4, 8), b.Param("embedding", graph.ConstInit(1), 1, 8))
			y := stack(b, r, x, layers, false)
			loss := b.SumAll(b.Mul(y, y))
			b.Output("loss", loss)
			for i, d := range b.Gradients(loss, b.Params()) {
				b.Output(fmt.Sprint("d", i), d)
			}
		})
		low, err := compile.Lower(g, func(*graph.Node) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, n := range low.Nodes {
			got[n.Op.Name]++
		}
		for _, what := range []string{"normlinear", "normlinear.vjp", "streamread", "streamread.vjp", "streamwrite", "streamwrite.vjp"} {
			if got[what] != layers {
				t.Errorf("%s: %d of %s, want %d", spec, got[what], what, layers)
			}
		}
	}
}
