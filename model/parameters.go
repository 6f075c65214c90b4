package model

import (
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Category says what a parameter is for: it decides its learning rate, its
// decay and how it is stored.
type Category string

// The categories.
const (
	Ternary   Category = "ternary"   // a weight with a packed form, whatever its quantizer; tables name that
	Linear    Category = "linear"    // a weight that stays in floats
	Embedded  Category = "embedding" // the embedding table
	NormGain  Category = "norm"      // gains of RMSNorm
	Residuals Category = "residual"  // whatever the residual declares
	Quantizer Category = "quantizer" // what the quantizer declares beside a weight
)

// Categories lists the categories in the order of tables.
var Categories = []Category{Ternary, Linear, Embedded, NormGain, Residuals, Quantizer}

// Parameter describes one parameter.
type Parameter struct {
	Name     string
	Shape    tensor.Shape
	Init     graph.Init
	Category Category
}

// Parameters lists the model's parameters in the order of the forward pass.
func (m *Model) Parameters() ([]Parameter, error) {
	g, err := m.Loss(1, 1, false)
	if err != nil {
		return nil, err
	}
	packed := map[string]bool{}
	for _, n := range g.States {
		if base, ok := strings.CutSuffix(n.Name(), ".codes"); ok {
			packed[base+".weight"] = true
		}
	}
	ofResidual, err := m.residualParameters()
	if err != nil {
		return nil, err
	}
	var ps []Parameter
	for _, n := range g.Params() {
		p := Parameter{Name: n.Name(), Shape: n.Out[0].Shape, Init: n.Attr.(graph.ParamAttr).Init, Category: Residuals}
		switch {
		case ofResidual[p.Name]:
		case packed[p.Name]:
			p.Category = Ternary
		case besides(packed, p.Name):
			p.Category = Quantizer
		case p.Name == "tok_embed.weight":
			p.Category = Embedded
		case strings.HasSuffix(p.Name, "norm.weight"):
			p.Category = NormGain
		case strings.HasSuffix(p.Name, ".weight") && len(p.Shape) == 2:
			p.Category = Linear
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// besides reports whether a parameter stands under the scope of a packed weight.
func besides(packed map[string]bool, name string) bool {
	for i, c := range name {
		if c == '.' && packed[name[:i]+".weight"] {
			return true
		}
	}
	return false
}

// residualParameters names what the residual declares, whatever it calls it.
func (m *Model) residualParameters() (map[string]bool, error) {
	g, err := graph.Trace(func(b *graph.Builder) {
		x := b.Input("x", tensor.F32, 1, m.Dim)
		s := m.residual.Expand(b, x)
		for l := range 2 * m.Layers {
			b.In(SubLayer(l), func() {
				m.residual.Read(b, l, s)
				s = m.residual.Write(b, l, s, x)
			})
		}
		m.residual.Collapse(b, s)
	})
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, n := range g.Params() {
		names[n.Name()] = true
	}
	return names, nil
}

// alone is a residual without parameters: what a model declares beside its
// residual's is what it declares with this one.
type alone struct{}

func (alone) Spec() string                                                { return "" }
func (alone) Expand(_ *graph.Builder, x graph.Value) graph.Value          { return x }
func (alone) Read(_ *graph.Builder, _ int, s graph.Value) graph.Value     { return s }
func (alone) Write(b *graph.Builder, _ int, s, y graph.Value) graph.Value { return b.Add(s, y) }
func (alone) Collapse(_ *graph.Builder, s graph.Value) graph.Value        { return s }

// reserved are how states of a trainer begin.
var reserved = []string{GradPrefix, "adam.", "muon."}

// checkResidual refuses a residual that declares a state of another part of
// the model, or one that a trainer would take for its own.
func (m *Model) checkResidual() error {
	names, err := m.residualParameters()
	if err != nil || len(names) == 0 {
		return err
	}
	rest := *m
	rest.residual = alone{}
	g, err := rest.Loss(1, 1, false)
	if err != nil {
		return err
	}
	for _, n := range g.States {
		if names[n.Name()] {
			return errors.WithHint(errors.Wrapf(ErrConfig, "residual %s declares %q, which another part of the model has", m.residual.Spec(), n.Name()),
				"its author must choose another name")
		}
	}
	for name := range names {
		for _, p := range reserved {
			if strings.HasPrefix(name, p) {
				return errors.WithHint(errors.Wrapf(ErrConfig, "residual %s declares %q", m.residual.Spec(), name), "names that begin with "+p+" are the trainer's")
			}
		}
	}
	return nil
}

// Count sums parameters by category.
func Count(ps []Parameter) (byCategory map[Category]int, total int) {
	byCategory = map[Category]int{}
	for _, p := range ps {
		n := p.Shape.Numel()
		byCategory[p.Category] += n
		total += n
	}
	return byCategory, total
}
