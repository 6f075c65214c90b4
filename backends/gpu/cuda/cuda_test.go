package cuda

import (
	"os"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/backendtest"
)

// opener opens the backend on the device of tests, with the interpreter of chains:
// a compiler takes too long for each of the thousands of graphs of the suite, and
// the fake one a second for each kernel.
func opener(t *testing.T, p engine.Precision) func() (framework.Backend, error) {
	return openerOf(t, p, false)
}

// generating opens it as programs do on a real device: chains become kernels.
func generating(t *testing.T, p engine.Precision) func() (framework.Backend, error) {
	return openerOf(t, p, cudatest.Real() && !testing.Short())
}

func openerOf(t *testing.T, p engine.Precision, generate bool) func() (framework.Backend, error) {
	t.Helper()
	libraries := cudatest.Libraries(t, "memory=8589934592")
	return func() (framework.Backend, error) {
		return open(config{
			device:   engine.DeviceOptions{Precision: p, Libraries: libraries, Cache: cudatest.Cache(t)},
			generate: generate,
		})
	}
}

func TestConformance(t *testing.T) {
	o := backendtest.Options{
		Open:        opener(t, engine.F32),
		Reference:   func() (framework.Backend, error) { return framework.Backends.Open("scalar") },
		Reference64: func() framework.Backend { return scalar.Open64(2) },
	}
	if m := os.Getenv("MODES"); m != "" {
		o.Modes = []string{m}
	}
	backendtest.Run(t, o)
}
