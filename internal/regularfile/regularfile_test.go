package regularfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestOpenGivesTheSizeOfRegularFilesOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := os.WriteFile(path, make([]byte, 123), 0o666); err != nil {
		t.Fatal(err)
	}
	f, size, err := Open(path)
	if err != nil || size != 123 {
		t.Fatalf("size %d, %v", size, err)
	}
	f.Close()
	if _, _, err := Open(dir); !errors.Is(err, ErrIrregular) {
		t.Errorf("a directory: %v", err)
	}
	if _, _, err := Open(filepath.Join(dir, "y")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
