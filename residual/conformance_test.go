package residual_test

import (
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/residualtest"
	_ "github.com/ternlm/tern/residual"
)

func TestConformance(t *testing.T) {
	for _, spec := range []string{
		"standard", "scaled", "scaled:init=0.5", "mhclite", "mhclite:streams=4", "mhclite:streams=2,init=report", "mhclite:streams=4,init=report",
	} {
		t.Run(spec, func(t *testing.T) {
			residualtest.Run(t, residualtest.Options{
				Open:      func() (framework.Residual, error) { return framework.Residuals.Open(spec) },
				Backend64: func() (framework.Backend, error) { return scalar.Open64(1), nil },
			})
		})
	}
}

func TestSpecsParseBack(t *testing.T) {
	for spec, want := range map[string]string{
		"standard": "standard", "scaled": "scaled:init=1", "mhclite": "mhclite:streams=2,init=paper", "mhclite:init=report,streams=4": "mhclite:streams=4,init=report",
	} {
		r, err := framework.Residuals.Open(spec)
		if err != nil {
			t.Fatal(err)
		}
		if r.Spec() != want {
			t.Errorf("%s opens as %s, want %s", spec, r.Spec(), want)
		}
	}
	for _, spec := range []string{"mhclite:streams=3", "mhclite:init=zero", "scaled:init=nan", "standard:gain=1"} {
		if _, err := framework.Residuals.Open(spec); err == nil {
			t.Errorf("%s is accepted", spec)
		}
	}
}
