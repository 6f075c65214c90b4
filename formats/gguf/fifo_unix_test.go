//go:build unix

package gguf

import (
	"path/filepath"
	"syscall"
	"testing"
)

// mkfifo makes a named pipe that nobody writes to.
func mkfifo(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "pipe.gguf")
	if err := syscall.Mkfifo(path, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}
