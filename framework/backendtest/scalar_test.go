package backendtest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/backendtest"
)

func open(threads int) (framework.Backend, error) {
	return framework.Backends.Open(fmt.Sprintf("scalar:threads=%d", threads))
}

func TestScalarPasses(t *testing.T) {
	backendtest.Run(t, backendtest.Options{
		Open:        func() (framework.Backend, error) { return open(1) },
		OpenThreads: open,
		Reference:   func() (framework.Backend, error) { return scalar.Open64(1), nil },
		Reference64: func() framework.Backend { return scalar.Open64(1) },
	})
}

// The interpreter is a second opinion on the derived gradients.
func TestGradientsOnTheInterpreter(t *testing.T) {
	for _, c := range backendtest.CheckGradients(context.Background(), nil).Failed() {
		t.Errorf("%s: %s", c.ID(), c.Detail)
	}
}
