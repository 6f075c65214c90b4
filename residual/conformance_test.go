package residual_test

import (
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/residualtest"
	_ "github.com/ternlm/tern/residual"
)

// fixed is the same number of parameters at any width.
func fixed(n int) func(int) int { return func(int) int { return n } }

// constrainedCount is that of n streams whose matrix has k logits and g gates.
func constrainedCount(n, k, gates int) func(C int) int {
	return func(C int) int { return n*C*(2*n+k) + n*C + 2*n + k + gates }
}

// counts are the parameters of a sub-layer.
var counts = map[string]func(C int) int{
	"standard":                               fixed(0),
	"scaled":                                 fixed(1),
	"scaled:init=0.5":                        fixed(1),
	"mhclite":                                fixed(9),
	"mhclite:streams=4":                      fixed(24 + 16),
	"mhclite:streams=2,init=report":          fixed(9),
	"mhclite:streams=4,init=report":          fixed(24 + 16),
	"mhclite:streams=2,mode=dynamic":         constrainedCount(2, 2, 3),
	"mhclite:streams=4,mode=dynamic":         constrainedCount(4, 24, 3),
	"mhc:streams=2":                          constrainedCount(2, 4, 3),
	"mhc:streams=4":                          constrainedCount(4, 16, 3),
	"mhc:streams=4,iterations=3,mode=static": fixed(4 + 4 + 16),
	"kromhc:streams=2":                       constrainedCount(2, 2, 3),
	"kromhc:streams=4":                       constrainedCount(4, 4, 3),
	"kromhc:streams=8":                       constrainedCount(8, 6, 3),
	"kromhc:streams=4,mode=static":           fixed(4 + 4 + 4),
	"ihc:streams=2":                          constrainedCount(2, 0, 2),
	"ihc:streams=4":                          constrainedCount(4, 0, 2),
	"ihc:streams=4,mode=static":              fixed(4 + 4),
	"shc:streams=2":                          fixed(2 * (2 + 2)),
	"shc:streams=4":                          fixed(4 * (4 + 2)),
	"hc:streams=2":                           func(C int) int { return (2+3)*C + 2 + 2*(2+2) },
	"hc:streams=4":                           func(C int) int { return (4+3)*C + 2 + 4*(4+2) },
}

func TestConformance(t *testing.T) {
	for spec, count := range counts {
		t.Run(spec, func(t *testing.T) {
			residualtest.Run(t, residualtest.Options{
				Open:       func() (framework.Residual, error) { return framework.Residuals.Open(spec) },
				Backend64:  func() (framework.Backend, error) { return scalar.Open64(1), nil },
				Parameters: count,
			})
		})
	}
}

// Nobody registers a residual that the suite does not see.
func TestEveryResidualIsTested(t *testing.T) {
	tested := map[string]bool{}
	for spec := range counts {
		name, _, _ := strings.Cut(spec, ":")
		tested[name] = true
	}
	for _, name := range framework.Residuals.Names() {
		if !tested[name] {
			t.Errorf("%s is not in the table of counts", name)
		}
	}
}

// At the width of nano-125m, worked out by hand.
func TestParametersOfASubLayerAtWidth768(t *testing.T) {
	for spec, want := range map[string]int{
		"mhclite:streams=2,mode=dynamic": 10_761, "mhclite:streams=4,mode=dynamic": 101_411,
		"mhc:streams=2": 13_835, "mhc:streams=4": 76_827,
		"kromhc:streams=2": 10_761, "kromhc:streams=4": 39_951, "kromhc:streams=8": 141_337,
		"ihc:streams=2": 7_686, "ihc:streams=4": 27_658, "hc:streams=2": 3_850, "hc:streams=4": 5_402,
	} {
		if got := counts[spec](768); got != want {
			t.Errorf("%s: %d parameters, want %d", spec, got, want)
		}
	}
}

func TestSpecsParseBack(t *testing.T) {
	for spec, want := range map[string]string{
		"standard": "standard", "scaled": "scaled:init=1",
		"mhclite":                         "mhclite:streams=2,init=paper",
		"mhclite:init=report,streams=4":   "mhclite:streams=4,init=report",
		"mhclite:mode=static":             "mhclite:streams=2,init=paper",
		"mhclite:mode=dynamic":            "mhclite:streams=2,mode=dynamic",
		"mhclite:mode=dynamic,init=paper": "mhclite:streams=2,mode=dynamic",
		"mhc":                             "mhc:streams=2,iterations=20,mode=dynamic",
		"mhc:mode=static,streams=4":       "mhc:streams=4,iterations=20,mode=static",
		"kromhc:streams=8":                "kromhc:streams=8,mode=dynamic",
		"ihc":                             "ihc:streams=2,mode=dynamic",
		"hc":                              "hc:streams=2",
		"shc:streams=4":                   "shc:streams=4",
	} {
		if got := open(t, spec).Spec(); got != want {
			t.Errorf("%s opens as %s, want %s", spec, got, want)
		}
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	for spec, hint := range map[string]string{
		"mhclite:streams=3":                 "streams is one of 2, 4",
		"mhclite:streams=two":               "",
		"mhclite:init=zero":                 "paper",
		"mhclite:mode=dynamc":               "dynamic",
		"mhclite:mode=dynamic,init=report":  "leave out init or mode",
		"mhclite:init=report,iterations=20": "init",
		"scaled:init=nan":                   "",
		"standard:gain=1":                   "",
		"mhc:streams=8":                     "streams is one of 2, 4",
		"mhc:iterations=0":                  "from 1 to 100",
		"mhc:iterations=1000000":            "from 1 to 100",
		"mhc:iteration=20":                  "iterations",
		"mhc:init=report":                   "",
		"kromhc:streams=3":                  "streams is one of 2, 4, 8",
		"kromhc:streams=16":                 "streams is one of 2, 4, 8",
		"kromhc:mode=statik":                "static",
		"ihc:streams=1":                     "streams is one of 2, 4",
		"hc:mode=static":                    "streams",
		"shc:streams=-2":                    "streams is one of 2, 4",
	} {
		r, err := framework.Residuals.Open(spec)
		if err == nil {
			t.Errorf("%s opens as %s", spec, r.Spec())
			continue
		}
		if h := errors.FlattenHints(err); !errors.Is(err, framework.ErrOption) || !strings.Contains(h, hint) {
			t.Errorf("%s: %v, hint %q, want one with %q", spec, err, h, hint)
		}
	}
}
