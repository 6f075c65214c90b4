package linear_test

import (
	"context"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/backendtest"
)

// The cases of backendtest that need no kernel of another package: those of the
// other ones are tests of the whole backend.
func TestRowsHaveTheSameBitsAloneAsAmongOthers(t *testing.T) {
	report := backendtest.Check(context.Background(), backendtest.Options{
		Open: func() (framework.Backend, error) {
			d, err := engine.OpenDevice(engine.DeviceOptions{Precision: engine.F32, Libraries: cudatest.Libraries(t), Cache: cudatest.Cache(t)})
			if err != nil {
				return nil, err
			}
			return cudatest.Backend(d, table(), nil), nil
		},
		Modes: []string{"rows"},
		Skip:  others(),
	})
	ran := 0
	for _, c := range report.Cases {
		if c.Err != nil {
			t.Errorf("%s: %s", c.ID(), c.Detail)
		}
		if c.Took > 0 {
			ran++
		}
	}
	if ran < 12 {
		t.Errorf("%d cases ran, wants those of matmul, codebookmatmul and normlinear", ran)
	}
}

// others are the cases of rows that are of other packages.
func others() map[string]string {
	skip := map[string]string{}
	for _, name := range []string{
		"rmsnorm", "softmax", "swiglu", "int8", "streamread", "streamwrite", "streamread by row", "streamwrite by row",
		"gather", "attention", "cached decode",
	} {
		skip[name] = "of another package"
	}
	return skip
}
