package model

import (
	"strings"

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
)

// Categories lists the categories in the order of tables.
var Categories = []Category{Ternary, Linear, Embedded, NormGain, Residuals}

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

// residualParameters names what the residual declares, whatever it calls it.
func (m *Model) residualParameters() (map[string]bool, error) {
	g, err := graph.Trace(func(b *graph.Builder) {
		x := b.Input("x", tensor.F32, 1, m.Dim)
		s := m.residual.Expand(b, x)
		for l := range 2 * m.Layers {
			inSubLayer(b, l, func() {
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
