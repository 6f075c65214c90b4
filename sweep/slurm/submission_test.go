package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
)

func TestSubmissionsThatAreNone(t *testing.T) {
	dir := t.TempDir()
	d := &sweep.Dir{Path: dir}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, "slurm", name)
		if err := os.MkdirAll(path, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "tasks.json"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(d, "x"); !errors.Is(err, ErrSubmission) {
		t.Errorf("without any: %v", err)
	}
	write("20261128-060000", `{"version":1,"cpus":1,"tasks":[["a"]]}`)
	write("cut", `{"version":1,"cpus":1,"ta`)
	write("other", `{"version":2,"cpus":1,"tasks":[["a"]]}`)
	write("empty", `{"version":1,"cpus":1,"tasks":[]}`)
	write("idle", `{"version":1,"cpus":0,"tasks":[["a"]]}`)
	write("large", strings.Repeat(" ", maxTasksFile+1))
	for _, name := range []string{"cut", "other", "empty", "idle", "large", "", "..", "../slurm/cut", "20261128-060001"} {
		_, err := Load(d, name)
		if !errors.Is(err, ErrSubmission) {
			t.Errorf("%q: %v", name, err)
		}
		if name == "20261128-060001" && !strings.Contains(errors.FlattenHints(err), "20261128-060000") {
			t.Errorf("hints: %s", errors.FlattenHints(err))
		}
	}
	if _, err := Load(d, "20261128-060000"); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"name":"20261128-060000","created":"2026-11-28T06:00:00Z","job_name":"tern-x","cpus":1,"memory":0,"retry":false,"tasks":[["0123456789abcdef"]]}`))
	f.Add([]byte(`{"version":1,"cpus":-1,"tasks":[null]}`))
	f.Add([]byte(`[]`))
	d := &sweep.Dir{}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parse(text)
		if err != nil {
			if !errors.Is(err, ErrSubmission) {
				t.Errorf("%v", err)
			}
			return
		}
		for i := range s.Tasks {
			if trials, err := s.Trials(d, i); err == nil && len(trials) != len(s.Tasks[i]) {
				t.Errorf("task %d has %d trials of %d", i, len(trials), len(s.Tasks[i]))
			}
		}
	})
}
