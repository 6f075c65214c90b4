package atomicfile

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
)

func files(t *testing.T, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

func TestWriteReplacesTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.bin")
	for _, want := range []string{"one", strings.Repeat("two", bufferBytes), ""} {
		if err := WriteBytes(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Fatalf("read %d bytes, %v; want %d bytes", len(got), err, len(want))
		}
	}
	if got := files(t, dir); len(got) != 1 {
		t.Fatalf("files left: %v", got)
	}
}

func TestOldContentStaysUntilTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := WriteBytes(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	err := Write(path, func(w io.Writer) error {
		if _, err := w.Write(make([]byte, 3*bufferBytes)); err != nil {
			return err
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
			t.Errorf("while writing: %q, %v", got, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFailureKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := WriteBytes(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("cause")
	err := Write(path, func(w io.Writer) error {
		_, _ = w.Write(make([]byte, 2*bufferBytes))
		return cause
	})
	if !errors.Is(err, cause) {
		t.Fatalf("error %v, want the cause", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Fatalf("content %q", got)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Fatalf("files left: %v", got)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "a")
	err := WriteBytes(path, nil)
	if !errors.Is(err, os.ErrNotExist) || len(errors.GetAllHints(err)) == 0 {
		t.Fatalf("error %v, hints %v", err, errors.GetAllHints(err))
	}
}

func TestSweepRemovesOnlyLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	f, err := create(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, other := range []string{"a", ".b.tmp-12", ".a.txt"} {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sweep(path); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(files(t, dir), " "); got != ".a.txt .b.tmp-12 a" {
		t.Fatalf("left %s", got)
	}
}
