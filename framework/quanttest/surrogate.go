package quanttest

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// own names the parameters that the quantizer has beside the weight.
func (s *tester) own() (map[string]bool, error) {
	names := map[string]bool{}
	sur, ok := s.q.(framework.Surrogate)
	if !ok {
		return names, nil
	}
	w := s.weight()
	g, err := graph.Trace(func(b *graph.Builder) { b.Output("y", sur.Surrogate(b, b.Input("w", tensor.F32, w.Shape...))) })
	if err != nil {
		return nil, errors.Wrap(err, "Surrogate")
	}
	for _, n := range g.States {
		names[n.Name()] = true
	}
	return names, nil
}

// surrogate differentiates sum(r * Surrogate(w)).
func (s *tester) surrogate(ctx context.Context) (string, error) {
	sur, ok := s.q.(framework.Surrogate)
	if !ok {
		return "the gradient goes straight through", nil
	}
	w := s.weight()
	var names []string
	g, err := graph.Trace(func(b *graph.Builder) {
		in := b.Input("w", tensor.F32, w.Shape...)
		y := sur.Surrogate(b, in)
		if !y.Type().Equal(w.Type) {
			graph.Fail("it is %v of a weight %v", y.Type(), w.Type)
		}
		wrt := append([]graph.Value{in}, b.Params()...)
		for i, d := range b.Gradients(b.SumAll(b.Mul(y, b.Input("r", tensor.F32, w.Shape...))), wrt) {
			names = append(names, wrt[i].N.Name())
			b.Output(fmt.Sprint("d", i), d)
		}
	})
	if err != nil {
		return "", err
	}
	for _, n := range g.States {
		if !n.IsParam() || slices.Contains([]string{"weight", "codes", "scales"}, n.Name()) {
			return "", errors.Newf("it declares the state %q, which is the layer's", n.Name())
		}
	}
	out, err := run(ctx, s.be, s.wide, g, w, normal("r", 1, w.Shape...))
	if err != nil {
		return "", err
	}
	for i, d := range out {
		most := 0.0
		for _, v := range d.Floats() {
			most = max(most, math.Abs(v))
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return "", errors.Newf("the gradient of %s holds %v", names[i], v)
			}
		}
		if most == 0 {
			return "", errors.Newf("the gradient of %s is zero everywhere", names[i])
		}
	}
	return fmt.Sprintf("%d parameters of its own", len(g.States)), nil
}
