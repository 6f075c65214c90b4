package quanttest

import (
	"context"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/suite"
)

// bent is signs with a surrogate.
type bent struct {
	signs
	surrogate func(b *graph.Builder, w graph.Value) graph.Value
}

func (q bent) Surrogate(b *graph.Builder, w graph.Value) graph.Value { return q.surrogate(b, w) }

func TestBadSurrogatesAreFound(t *testing.T) {
	type B = graph.Builder
	for name, c := range map[string]struct {
		f    func(b *B, w graph.Value) graph.Value
		want string // "" is fine
	}{
		"straight through":  {func(_ *B, w graph.Value) graph.Value { return w }, ""},
		"a parameter":       {func(b *B, w graph.Value) graph.Value { return b.Mul(w, b.Param("step", graph.ConstInit(1), 1, 1)) }, ""},
		"another shape":     {func(b *B, w graph.Value) graph.Value { return b.Transpose(w, 1, 0) }, "of a weight"},
		"the layer's state": {func(b *B, w graph.Value) graph.Value { return b.Mul(w, b.Param("scales", graph.ConstInit(1), 1, 1)) }, "scales"},
		"no gradient":       {func(b *B, w graph.Value) graph.Value { return b.StopGrad(w) }, "zero everywhere"},
		"an idle parameter": {func(b *B, w graph.Value) graph.Value { b.Param("step", graph.ConstInit(1), 1); return w }, "zero everywhere"},
		"no number":         {func(b *B, w graph.Value) graph.Value { return b.Sqrt(b.Sub(w, b.Like(w, 1e6))) }, "NaN"},
	} {
		s, err := open(context.Background(), Options{Open: func() (framework.Quantizer, error) { return bent{surrogate: c.f}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range s.entries() {
			if e.Name != "surrogate" {
				continue
			}
			switch got := suite.One(context.Background(), e, nil); {
			case c.want == "" && got.Err != nil:
				t.Errorf("%s: %v", name, got.Err)
			case c.want != "" && (got.Err == nil || !strings.Contains(got.Err.Error(), c.want)):
				t.Errorf("%s: %v, want %q", name, got.Err, c.want)
			}
		}
	}
}
