package filelock

import (
	"os"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/windows"
)

// lock takes a lock without waiting, of one byte far behind the file's end:
// here nobody else may read what is locked.
func lock(f *os.File, alone bool) error {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if alone {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errBusy
	}
	return os.NewSyscallError("LockFileEx", err)
}
