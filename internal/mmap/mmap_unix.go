//go:build unix

package mmap

import (
	"os"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

func mapFile(f *os.File, size int) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
}

func unmap(data []byte) error { return unix.Munmap(data) }

func release(data []byte) { _ = unix.Madvise(data, unix.MADV_DONTNEED) }

// isFault reports whether the kernel met the missing page itself, in a system
// call that was given mapped memory.
func isFault(err error) bool { return errors.Is(err, unix.EFAULT) }
