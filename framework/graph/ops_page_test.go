package graph_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/graph"
)

const opsPage = "../../docs/ops.md"

// TestOpsPageIsCurrent keeps docs/ops.md, the list of ops, as they are defined.
func TestOpsPageIsCurrent(t *testing.T) {
	var s strings.Builder
	s.WriteString("# Ops\n\nMade by `go test ./framework/graph -run OpsPage -update`. Shapes and meanings are in the documentation of the builder\n" +
		"methods (`go doc ./framework/graph Builder`). A primitive has a gradient rule; a composite is defined by its expansion, and its\n" +
		"pullback `X.vjp` by the derivative of that; `X.joint` is both at once. A result may take the memory of the operands listed under \"in place\".\n")
	section := func(title string, keep func(*graph.Op) bool) {
		fmt.Fprintf(&s, "\n## %s\n\n| op | operands | attribute | in place |\n|---|---|---|---|\n", title)
		for _, op := range graph.Ops() {
			if keep(op) {
				fmt.Fprintf(&s, "| %s | %s | %s | %s |\n", op.Name, arity(op), attribute(op), inPlace(op))
			}
		}
	}
	section("Primitives", func(op *graph.Op) bool { return !op.Composite() })
	section("Composites", func(op *graph.Op) bool { return op.Composite() && op.Primal() == nil })
	section("Pullbacks", func(op *graph.Op) bool { return op.Primal() != nil })
	if *update {
		if err := os.WriteFile(opsPage, []byte(s.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(opsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != s.String() {
		t.Error("docs/ops.md is out of date: run with -update")
	}
}

func arity(op *graph.Op) string {
	if op.Arity < 0 {
		return "1 or more"
	}
	return fmt.Sprint(op.Arity)
}

func attribute(op *graph.Op) string {
	if op.Attr == nil {
		return ""
	}
	js, err := json.Marshal(op.Attr)
	if err != nil {
		return err.Error()
	}
	return "`" + string(js) + "`"
}

func inPlace(op *graph.Op) string {
	switch {
	case op.View:
		return "a view of operand 0"
	case op.Alias == nil:
		return ""
	}
	return strings.NewReplacer("[", "", "]", "", " ", ", ").Replace(fmt.Sprint(op.Alias))
}
