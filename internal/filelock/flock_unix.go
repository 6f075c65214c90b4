//go:build unix && !solaris && !aix

package filelock

import (
	"os"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// lock takes a lock of the whole file, alone or shared, without waiting. It is
// that of flock(2): bound to this opening of the file, not inherited by programs
// that are started, and on NFS one of the server's.
func lock(f *os.File, alone bool) error {
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			return errBusy
		}
		return os.NewSyscallError("flock", err)
	}
}
