package backendtest

import (
	"context"
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/eval"
)

func TestEveryOpHasACase(t *testing.T) {
	for _, op := range graph.Ops() {
		if len(samplesOf(op)) == 0 {
			t.Errorf("op %s has no case: add a row to the table in cases.go", op.Name)
		}
	}
	for name := range table {
		if graph.Lookup(name) == nil {
			t.Errorf("the table has a case for %s, which is no op", name)
		}
	}
}

func TestInterpreterPasses(t *testing.T) {
	r := Check(context.Background(), Options{Open: func() (framework.Backend, error) { return &eval.Backend{Single: true}, nil }})
	for _, c := range r.Failed() {
		t.Errorf("%s: %s", c.ID(), c.Detail)
	}
	t.Log(len(r.Cases), "cases", r.Took())
}
