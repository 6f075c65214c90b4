package train

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/internal/memory"
	"github.com/ternlm/tern/model"
)

// Estimate returns the bytes that training m by r takes on be: parameters,
// gradients, moments, and the values of a step where the backend tells them. It
// is what New holds against the memory that is free.
func Estimate(be framework.Backend, m *model.Model, r Recipe) (int64, error) {
	g, err := m.Accumulate(r.Batch, r.Window, r.Accum)
	if err != nil {
		return 0, errors.Wrap(err, "trace training step")
	}
	return memory.Estimate(be, memory.Load{What: "training", Graph: g, Extra: moments(g)})
}
