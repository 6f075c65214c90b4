//go:build unix

package data

import (
	"math"
	"os"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// mapFile maps a regular file for reading.
func mapFile(path string) (data []byte, mapped bool, unmap func() error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, false, nil, errors.WithHint(errors.Wrap(ErrFormat, "not a regular file"), "name a token file")
	}
	size := info.Size()
	if size == 0 {
		return nil, false, func() error { return nil }, nil
	}
	if size > math.MaxInt {
		return nil, false, nil, errors.Wrapf(ErrTooLarge, "%d bytes", size)
	}
	data, err = unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, false, nil, errors.Wrap(err, "map")
	}
	return data, true, func() error { return unix.Munmap(data) }, nil
}
