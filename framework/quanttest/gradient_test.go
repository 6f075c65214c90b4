package quanttest

import (
	"context"
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/eval"
	"github.com/ternlm/tern/framework/internal/suite"
)

// signs is the least quantizer there is: the sign times 0.5.
type signs struct{}

func (signs) Spec() string { return "signs" }

func (signs) Format() framework.Format {
	return framework.Format{Bits: 1, Levels: []int8{-1, 1}, Group: framework.GroupTensor, ActBits: 8}
}

func (q signs) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	t := b.Where(b.Less(w, b.Like(w, 0)), b.Like(w, -1), b.Like(w, 1))
	return b.Encode(t, q.Format().Code(), q.Format().Levels), b.Like(w, 0.5)
}

// No quantizer can bend the gradient; a pullback can.
func TestGradientFlawIsFound(t *testing.T) {
	for result, bend := range []bool{false, true, true} {
		s, err := open(context.Background(), Options{Open: func() (framework.Quantizer, error) { return signs{}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		s.exact = &eval.Backend{Flaw: func(n *graph.Node, _, out [][]float64) {
			if n.Op.Name == "bitlinear.vjp" && bend {
				out[result-1][0] *= 1 + 1e-9
			}
		}}
		for _, e := range s.entries() {
			if e.Name != "gradient" {
				continue
			}
			if c := suite.One(context.Background(), e, nil); (c.Err != nil) != bend {
				t.Errorf("result %d bent: %v, found: %v", result, bend, c.Err)
			}
		}
	}
}
