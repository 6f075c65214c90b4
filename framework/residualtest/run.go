package residualtest

import (
	"context"
	"testing"

	"github.com/ternlm/tern/framework/internal/suite"
)

// Run runs the suite as subtests of t.
func Run(t *testing.T, o Options) {
	t.Helper()
	s, err := open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	suite.Test(t, s.entries(), o.Skip)
}
