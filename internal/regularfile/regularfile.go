// Package regularfile opens files whose size can be trusted as a bound.
package regularfile

import (
	"os"

	"github.com/cockroachdb/errors"
)

// ErrIrregular is returned for a path that is a directory, a device or a pipe.
var ErrIrregular = errors.New("no regular file")

// Open opens the regular file at path and returns its size. The kind is
// checked before opening, because opening a pipe may block.
func Open(path string) (f *os.File, size int64, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !st.Mode().IsRegular() {
		return nil, 0, errors.Wrapf(ErrIrregular, "%s: %v", path, st.Mode().Type())
	}
	f, err = os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	st, err = f.Stat() // of what was opened: its size bounds everything
	if err != nil {
		return nil, 0, errors.CombineErrors(err, f.Close())
	}
	return f, st.Size(), nil
}
