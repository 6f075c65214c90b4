//go:build unix

package slurm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ternlm/tern/sweep"
)

// fakes puts commands before those of the system's. Each notes how it was called
// in calls, and then does what its script says.
func fakes(t *testing.T, scripts map[string]string) (calls func() string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "calls")
	for name, script := range scripts {
		text := fmt.Sprintf("#!/bin/sh\n{ printf '%s'; printf ' <%%s>' \"$@\"; echo; } >>%s\n%s\n", name, sweep.ShellWord(file), script)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+"/usr/bin:/bin")
	return func() string {
		text, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(text)
	}
}

// plan makes a plan of n trials in a directory of that name.
func plan(t *testing.T, name string, n int) *sweep.Dir {
	t.Helper()
	p := sweep.Plan{Version: sweep.Version, Name: "a sweep"}
	for i := range n {
		config := fmt.Appendf(nil, `{"n":%d}`, i)
		id, err := sweep.ID(config)
		if err != nil {
			t.Fatal(err)
		}
		p.Trials = append(p.Trials, sweep.Trial{ID: id, Config: config, Cell: "n=" + strings.Repeat("x", i), Memory: 100 << 20})
	}
	dir := filepath.Join(t.TempDir(), name)
	if err := sweep.Freeze(dir, p, nil); err != nil {
		t.Fatal(err)
	}
	d, err := sweep.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// config is what scontrol says of a cluster with arrays up to so many tasks.
func config(most int) string {
	return fmt.Sprintf("echo 'Configuration data as of 2026-11-28T06:00:00'\necho 'MaxArraySize            = %d'", most)
}
