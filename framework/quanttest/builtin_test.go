package quanttest_test

import (
	"context"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/eval"
	"github.com/ternlm/tern/framework/quanttest"
	_ "github.com/ternlm/tern/quant"
)

// The built-in quantizers, on the reference backend's own kernels.
func TestBuiltInsPass(t *testing.T) {
	for _, spec := range []string{"none", "ternary", "ternary:group=32", "ternary:group=256", "ternary:group=row", "ternary:group=tensor,scale=f32"} {
		t.Run(spec, func(t *testing.T) {
			quanttest.Run(t, quanttest.Options{
				Open:    func() (framework.Quantizer, error) { return framework.Quantizers.Open(spec) },
				Backend: func() (framework.Backend, error) { return scalar.Open(framework.Options{}) },
			})
		})
	}
}

// A backend whose training kernel differs from its inference kernel, or that
// computes something else, breaks the rule of values.
func TestValueFlawOfABackendIsFound(t *testing.T) {
	for _, op := range []string{"bitlinear", "codebookmatmul"} {
		o := options(ternary(32))
		o.Backend = func() (framework.Backend, error) {
			return &eval.Backend{Single: true, Flaw: func(n *graph.Node, _, out [][]float64) {
				if n.Op.Name == op {
					out[0][3] *= 1 + 2e-7
				}
			}}, nil
		}
		mustFind(t, "training value", quanttest.Check(context.Background(), o))
	}
}
