//go:build (!unix && !windows) || solaris || aix

package filelock

import (
	"os"
	"runtime"

	"github.com/cockroachdb/errors"
)

func lock(*os.File, bool) error {
	return errors.Wrapf(errors.ErrUnsupported, "locks of files on %s", runtime.GOOS)
}
