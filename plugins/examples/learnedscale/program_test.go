package main

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ternlm/tern/plugins/conformance"
)

// The program that tern starts keeps the same rules, and those of all plugins.
func TestConformanceOfTheProgram(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "tern-plugin-learned-scale")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	r := conformance.Check(t.Context(), conformance.Binary(binary))
	var table strings.Builder
	if err := r.Write(&table); err != nil {
		t.Fatal(err)
	}
	if t.Log(table.String()); !r.OK() {
		t.Errorf("%d cases fail", len(r.Failed()))
	}
}
