package train

import (
	"strings"
	"testing"

	"github.com/ternlm/tern/model"
)

// A residual's weights are matrices, but none of the hidden ones that Muon is
// for: all of its parameters are AdamW's, without decay.
func TestNoParameterOfAResidualIsInTheMatrixGroup(t *testing.T) {
	r, err := LookupRecipe("default")
	if err != nil {
		t.Fatal(err)
	}
	r.Optimizer, r.MatrixDecay = "muon", 0.1
	for _, spec := range []string{"mhclite:streams=4,mode=dynamic", "mhc:streams=2", "kromhc:streams=8", "ihc:streams=2", "hc:streams=4", "shc:streams=4"} {
		c, err := model.Preset("tiny")
		if err != nil {
			t.Fatal(err)
		}
		c.Residual = spec
		m, err := model.New(c)
		if err != nil {
			t.Fatal(err)
		}
		ps, err := m.Parameters()
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, p := range ps {
			if !strings.Contains(p.Name, "hc.") {
				continue
			}
			seen++
			if g := r.groupOf(p); p.Category != model.Residuals || g != (group{lr: r.OtherLR}) {
				t.Errorf("%s: %s is %s, %+v", spec, p.Name, p.Category, g)
			}
		}
		if seen < 3*2*c.Layers {
			t.Errorf("%s: %d parameters", spec, seen)
		}
	}
}
