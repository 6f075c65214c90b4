//go:build unix && !solaris && !aix

package process

import (
	"os"
	"syscall"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// errTaken is returned for an owner's file that another process has locked, or
// that was removed meanwhile.
var errTaken = errors.New("another process has it")

// own makes and locks an owner's file. Where the file system knows no locks, it
// is nil: such a directory is never swept.
func own(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := tryLock(f); {
	case errors.Is(err, errTaken):
		return nil, errors.CombineErrors(err, f.Close())
	case err != nil:
		return nil, errors.CombineErrors(os.Remove(path), f.Close())
	}
	mine, err := f.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = os.Stat(path); err == nil && !os.SameFile(mine, there) {
			err = errTaken
		}
	}
	if err != nil {
		return nil, errors.CombineErrors(err, f.Close())
	}
	return f, nil
}

// disown locks the owner's file of a directory whose process is gone.
func disown(root *os.Root) (*os.File, error) {
	f, err := root.OpenFile(ownerName, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		return nil, errors.CombineErrors(err, f.Close())
	}
	return f, nil
}

// tryLock is flock(2), which is bound to this opening of the file and goes with
// it.
func tryLock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return errTaken
		}
		return err
	}
}

// mine reports whether a file is this user's.
func mine(st os.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Geteuid()
}
