package train_test

import (
	"strconv"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/rng"
)

func open64(t *testing.T) framework.Backend {
	t.Helper()
	be := scalar.Open64(1)
	t.Cleanup(func() { be.Close() })
	return be
}

func fillNormal(v []float64, stream int, std float64) {
	k := rng.NewKey(uint64(stream), "test")
	for i := range v {
		v[i] = std * k.Normal(uint64(i))
	}
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
