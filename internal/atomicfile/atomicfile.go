package atomicfile

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/errors"
)

// bufferBytes is how much a writer collects before a system call; writes of
// at least this size pass through uncopied.
const bufferBytes = 1 << 18

// marker stands between the hidden file's name and its random part.
const marker = ".tmp-"

// Write calls fn with a buffered writer to a new file beside path, brings the
// file to the disk, and renames it to path. The directory must exist.
//
// If fn or any step fails, the file at path is what it was before and the new
// file is removed. A path that is a symbolic link is replaced, not followed. A
// process that is killed while it writes leaves a hidden file, which Sweep
// removes. Two writers of one path are safe: the last rename wins.
func Write(path string, fn func(io.Writer) error) (err error) {
	f, err := create(path)
	if err != nil {
		return explain(err, path)
	}
	defer func() {
		if err != nil {
			_ = f.Close() // a second Close only reports that it is one
			_ = os.Remove(f.Name())
			err = explain(err, path)
		}
	}()
	w := bufio.NewWriterSize(f, bufferBytes)
	if err = fn(w); err != nil {
		return err
	}
	if err = w.Flush(); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// WriteBytes writes data to path as Write does.
func WriteBytes(path string, data []byte) error {
	return Write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Sweep removes what killed writers of path left beside it. Only the owner of
// path may call it: it would pull the file from under a writer at work.
func Sweep(path string) error {
	dir, prefix := filepath.Dir(path), hidden(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return errors.Wrapf(err, "sweep %s", path)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || !e.Type().IsRegular() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !os.IsNotExist(err) {
			return errors.Wrapf(err, "sweep %s", path)
		}
	}
	return nil
}

func hidden(path string) string { return "." + filepath.Base(path) + marker }

// create opens a new file beside path. Unlike os.CreateTemp it leaves the
// permissions to the umask, as for any file a user makes.
func create(path string) (*os.File, error) {
	for try := 0; ; try++ {
		var r [8]byte
		_, _ = rand.Read(r[:]) // documented never to fail
		name := filepath.Join(filepath.Dir(path), hidden(path)+hex.EncodeToString(r[:]))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if os.IsExist(err) && try < 100 {
			continue
		}
		return f, err
	}
}

func explain(err error, path string) error {
	err = errors.Wrapf(err, "write %s", path)
	switch {
	case isFull(err):
		return errors.WithHint(err, "the disk is full: free some space and try again; what was saved before is untouched")
	case errors.Is(err, os.ErrNotExist):
		return errors.WithHintf(err, "the directory %s must exist", filepath.Dir(path))
	case errors.Is(err, os.ErrPermission):
		return errors.WithHintf(err, "choose a place that you may write to, or change the permissions of %s", filepath.Dir(path))
	}
	return err
}
