package avx2_test

import (
	"fmt"
	"testing"

	"github.com/ternlm/tern/backends/avx2"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/backendtest"
)

func TestConformance(t *testing.T) {
	if !avx2.Supported() {
		t.Skip("the processor or the build has no AVX2")
	}
	backendtest.Run(t, backendtest.Options{
		Open: func() (framework.Backend, error) { return framework.Backends.Open("avx2") },
		OpenThreads: func(n int) (framework.Backend, error) {
			return framework.Backends.Open(fmt.Sprintf("avx2:threads=%d", n))
		},
		Reference:   func() (framework.Backend, error) { return framework.Backends.Open("scalar") },
		Reference64: func() framework.Backend { return scalar.Open64(2) },
	})
}
