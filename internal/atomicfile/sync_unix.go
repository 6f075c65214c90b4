//go:build unix

package atomicfile

import (
	"os"
	"syscall"

	"github.com/cockroachdb/errors"
)

// SyncDir brings a directory's entries to the disk: after it, a rename or a
// new file in dir survives a power cut. File systems that cannot do so are
// taken as they are.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return errors.Wrapf(err, "sync directory %s", dir)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return errors.Wrapf(err, "sync directory %s", dir)
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
