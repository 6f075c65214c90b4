package simulated

import (
	"os"
	"path/filepath"
	"testing"
)

// kept is a test whose libraries stay.
type kept struct {
	*testing.T
	dir string
}

func (k kept) TempDir() string { return k.dir }

// TestKeep leaves the libraries in the directory FAKE_CUDA, where it is named, for
// a plugin that is run by hand: --backend gpu:libraries=DIR.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	if named := os.Getenv("FAKE_CUDA"); named != "" {
		dir = named
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	Libraries(kept{t, dir}, Options{})
	for _, file := range []string{"libcuda.so.1", "libnvrtc.so.12", "libcublasLt.so.12"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}
}
