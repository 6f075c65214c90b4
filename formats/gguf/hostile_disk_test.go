package gguf

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
)

// within fails the test if fn takes longer than a generous time for what ought
// to be done in milliseconds.
func within(t *testing.T, limit time.Duration, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("not done after %v", limit)
	}
}

// TestHostileFilesCostNothing opens each from the disk, where some are followed
// by a sparse gigabyte so that what they claim could be there.
func TestHostileFilesCostNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostile.gguf")
	within(t, 20*time.Second, func() {
		for name, c := range hostileFiles() {
			for _, size := range []int64{int64(len(c.data)), 1 << 30} {
				if err := os.WriteFile(path, c.data, 0o666); err != nil {
					t.Error(err)
				}
				if err := os.Truncate(path, size); err != nil {
					t.Error(err)
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				f, err := Open(path)
				runtime.ReadMemStats(&after)
				if err == nil { // the sparse bytes made it sound
					err = f.Close()
				}
				if err != nil && !errors.Is(err, ErrFormat) {
					t.Errorf("%s in %d bytes: %v", name, size, err)
				}
				if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
					t.Errorf("%s in %d bytes: %d bytes were allocated", name, size, n)
				}
			}
		}
	})
}

// TestWhatIsNoFileIsRefused opens what would block, have no end or hold
// another program's model.
func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	pickle := filepath.Join(dir, "pickle.gguf")
	if err := os.WriteFile(pickle, []byte("\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01w\x94K\x01s."), 0o666); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.gguf")
	if err := os.Symlink(filepath.Join(dir, "none"), link); err != nil {
		t.Skip(err)
	}
	paths := map[string]string{"directory": dir, "pickle": pickle}
	for name, path := range map[string]string{"zero": "/dev/zero", "terminal": "/dev/tty", "pipe": mkfifo(t, dir)} {
		if _, err := os.Stat(path); err == nil {
			paths[name] = path
		}
	}
	within(t, 10*time.Second, func() {
		for name, path := range paths {
			if _, err := Open(path); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), path) || len(errors.GetAllHints(err)) == 0 {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := Open(link); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("dangling link: %v", err)
		}
	})
}

// TestTruncatedFilesOnDiskNameTheFile cuts at every byte of the header and at
// 100 places after it.
func TestTruncatedFilesOnDiskNameTheFile(t *testing.T) {
	x := openFile(t, ggmlFile)
	last := x.Tensors[len(x.Tensors)-1]
	path := filepath.Join(t.TempDir(), "cut.gguf")
	if err := os.WriteFile(path, must(os.ReadFile(ggmlFile)), 0o666); err != nil {
		t.Fatal(err)
	}
	var cuts []int64 // from the end on
	for i := range int64(100) {
		cuts = append(cuts, last.Offset+last.Size-1-i*(last.Offset+last.Size-x.DataStart)/100)
	}
	for n := x.DataStart; n >= 0; n-- {
		cuts = append(cuts, n)
	}
	within(t, 20*time.Second, func() {
		for _, n := range cuts {
			if err := os.Truncate(path, n); err != nil {
				t.Error(err)
			}
			f, err := Open(path)
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), path) {
				t.Errorf("%d bytes: %v, %v", n, f, err)
				return
			}
		}
	})
}
