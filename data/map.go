package data

import (
	"io"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/mmap"
	"github.com/ternlm/tern/internal/regularfile"
)

// mapFile maps a regular file for reading; where that cannot be, it reads the
// file into memory, and mapping is nil.
func mapFile(path string) (data []byte, mapping *mmap.Mapping, err error) {
	f, size, err := regularfile.Open(path)
	switch {
	case errors.Is(err, regularfile.ErrIrregular):
		return nil, nil, errors.WithHint(errors.Wrap(ErrFormat, "not a regular file"), "name a token file")
	case err != nil:
		return nil, nil, err
	}
	defer f.Close()
	if int64(int(size)) != size {
		return nil, nil, errors.Wrapf(ErrTooLarge, "%d bytes", size)
	}
	mapping, err = mmap.Map(f, size)
	if errors.Is(err, mmap.ErrUnsupported) {
		data, err = io.ReadAll(f)
		return data, nil, err
	} else if err != nil {
		return nil, nil, err
	}
	return mapping.Bytes(), mapping, nil
}
