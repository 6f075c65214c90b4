package sweep

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// testKeys are those of a program with a few settings.
var testKeys = Keys{
	Known:   []string{"residual", "quant", "dim", "matrix_lr", "seed", "data", "steps"},
	Refused: map[string]string{"out": "each trial has its own"},
}

// resolveAll is a Resolver of a program whose settings all decide.
func resolveAll(given map[string]string) (Resolved, error) {
	all := map[string]string{"residual": "standard", "quant": "ternary", "dim": "32", "seed": "1", "steps": "8"}
	for k, v := range given {
		all[k] = v
	}
	config, err := json.Marshal(all)
	if err != nil {
		return Resolved{}, err
	}
	seed, err := strconv.ParseUint(all["seed"], 10, 64)
	return Resolved{Settings: all, Seed: seed, Config: config, Parameters: 10, Memory: 1 << 20, StepFLOPs: 100}, err
}

// mustPlan plans the text of a spec.
func mustPlan(t *testing.T, text string) Plan {
	t.Helper()
	s, err := ParseSpec("s.yaml", []byte(text), testKeys)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(s, resolveAll)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name == "" {
		p.Name = "test"
	}
	return p
}

// mustFreeze plans the text of a spec in a new directory.
func mustFreeze(t *testing.T, text string) *Dir {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plan")
	if err := Freeze(dir, mustPlan(t, text), []byte(text)); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, dir)
}

func mustOpen(t *testing.T, dir string) *Dir {
	t.Helper()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustWrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}
