package main

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ternlm/tern/backends/gpu/cuda/simulated"
)

// TestScriptsOnADevice runs the command with the plugin of --backend gpu, on
// libraries that run on the processor. $PLUGIN is the plugin, $GPU a spec; $TINY,
// $OLD, $NONE and $EARLY are libraries with a fault each.
func TestScriptsOnADevice(t *testing.T) {
	fake := simulated.Libraries(t, simulated.Options{}) // before the plugin is built for nothing
	plugin := filepath.Join(t.TempDir(), "tern-plugin-cuda")
	build := exec.Command("go", "build", "-o", plugin, "github.com/ternlm/tern/backends/gpu/cmd/tern-plugin-cuda")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	env := map[string]string{
		"PLUGIN": plugin, "FAKE": fake, "GPU": "gpu:libraries=" + fake + ",generate=never,cache=" + simulated.Cache(t),
	}
	for name, setting := range map[string]string{"TINY": "memory=2097152", "OLD": "version=11080", "NONE": "devices=0", "EARLY": "capability=75"} {
		env[name] = simulated.Libraries(t, simulated.Options{Settings: []string{setting}})
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/gpu", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			for k, v := range env {
				e.Setenv(k, v)
			}
			if err := setGo(e); err != nil {
				return err
			}
			if err := expand(filepath.Join(e.WorkDir, "spec.yaml"), e); err != nil {
				return err
			}
			return writeSmall(e.WorkDir)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"status": status, "near": near},
	})
}

// expand replaces $GPU in a file of a script.
func expand(path string, e *testscript.Env) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "$GPU", e.Getenv("GPU"))), 0o644)
}

// near compares the losses of two runs: near A/metrics.jsonl B/metrics.jsonl BOUND.
func near(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: near FILE FILE BOUND")
	}
	bound, err := strconv.ParseFloat(args[2], 64)
	ts.Check(err)
	losses := func(file string) (all []float64) {
		for line := range strings.Lines(ts.ReadFile(file)) {
			var e struct{ Loss float64 }
			ts.Check(json.Unmarshal([]byte(line), &e))
			all = append(all, e.Loss)
		}
		return all
	}
	a, b := losses(args[0]), losses(args[1])
	if len(a) == 0 || len(a) != len(b) {
		ts.Fatalf("%d steps and %d", len(a), len(b))
	}
	for i := range a {
		if !(math.Abs(a[i]-b[i]) <= bound) {
			ts.Fatalf("step %d: losses %v and %v", i+1, a[i], b[i])
		}
	}
}
