package avx2_test

import (
	"fmt"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/backendtest"
)

func TestConformance(t *testing.T) {
	eachISA(t, func(t *testing.T, spec string) {
		backendtest.Run(t, backendtest.Options{
			Open: func() (framework.Backend, error) { return framework.Backends.Open(spec) },
			OpenThreads: func(n int) (framework.Backend, error) {
				return framework.Backends.Open(fmt.Sprintf("%s,threads=%d", spec, n))
			},
			Reference:   func() (framework.Backend, error) { return framework.Backends.Open("scalar") },
			Reference64: func() framework.Backend { return scalar.Open64(2) },
		})
	})
}
