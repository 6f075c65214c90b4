package avx2

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/cpuid/v2"

	"github.com/ternlm/tern/framework"
)

func TestWhatKeepsTheBackendFromRunningIsNamed(t *testing.T) {
	without := "this program was built without assembly"
	if runtime.GOARCH != "amd64" {
		without = "there is no assembly for " + runtime.GOARCH
	}
	all := []cpuid.FeatureID{cpuid.AVX2, cpuid.FMA3, cpuid.F16C}
	for name, c := range map[string]struct {
		assembly bool
		has      []cpuid.FeatureID
		want     string // "" is that it runs
	}{
		"nothing is missing":  {true, all, ""},
		"no assembly":         {false, all, without},
		"one feature missing": {true, []cpuid.FeatureID{cpuid.AVX2, cpuid.F16C}, "lacks FMA3: "},
		"two features":        {true, []cpuid.FeatureID{cpuid.FMA3}, "lacks AVX2, F16C: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := unsupported(c.assembly, func(f cpuid.FeatureID) bool { return slices.Contains(c.has, f) })
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, framework.ErrUnsupported) || !strings.Contains(err.Error(), c.want) || len(errors.GetAllHints(err)) == 0 {
				t.Errorf("error %v, want %q and a hint", err, c.want)
			}
		})
	}
}
