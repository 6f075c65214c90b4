package backendtest

import (
	"context"
	"testing"

	"github.com/ternlm/tern/framework/internal/suite"
)

// Run runs the suite as subtests of t.
func Run(t *testing.T, o Options) {
	t.Helper()
	tt, err := newTester(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tt.close)
	suite.Test(t, tt.entries(), o.Skip)
}
