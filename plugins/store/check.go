package store

import (
	"os"
	"path/filepath"
	"runtime"

	"github.com/cockroachdb/errors"
)

// CheckFile returns ErrUnsafe, wrapped, for a file that another user could
// change: it, its links resolved, or its directory belongs to somebody else than
// root or the user, it is writable by everybody, or so is a directory on the way
// to it that is not sticky. It must be a regular file.
func CheckFile(path string) error {
	real, st, err := resolve(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.WithHint(errors.Wrapf(ErrUnsafe, "%s is no regular file", path), "name a plugin's binary")
	}
	if err := owned(real, st); err != nil {
		return err
	}
	if writable(st) {
		return refuse(real)
	}
	parent, err := os.Stat(filepath.Dir(real))
	if err != nil {
		return err
	}
	if err := owned(filepath.Dir(real), parent); err != nil {
		return err
	}
	return checkAbove(real)
}

// CheckDir is CheckFile for a directory that plugins are looked for in: it may
// not be writable by everybody even if it is sticky.
func CheckDir(path string) error {
	real, st, err := resolve(path)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return errors.WithHint(errors.Wrapf(ErrUnsafe, "%s is no directory", path), "name directories in "+Variable)
	}
	if err := owned(real, st); err != nil {
		return err
	}
	if writable(st) {
		return refuse(real)
	}
	return checkAbove(real)
}

func resolve(path string) (string, os.FileInfo, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return "", nil, err
	}
	st, err := os.Stat(real)
	return real, st, err
}

// checkAbove looks at the directories above path.
func checkAbove(path string) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if writable(st) && st.Mode()&os.ModeSticky == 0 {
			return refuse(dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// writable reports whether everybody may write.
func writable(st os.FileInfo) bool {
	return runtime.GOOS != "windows" && st.Mode().Perm()&0o002 != 0
}

func refuse(path string) error {
	err := errors.Wrapf(ErrUnsafe, "%s is writable by everybody", path)
	return errors.WithHint(err, "chmod o-w "+quote(path))
}

// owned reports a file that belongs to neither root nor the user.
func owned(path string, st os.FileInfo) error {
	uid, ok := ownerOf(st)
	if !ok || uid == 0 || uid == os.Getuid() {
		return nil
	}
	err := errors.Wrapf(ErrUnsafe, "%s belongs to user %d, who is neither you nor root", path, uid)
	return errors.WithHint(err, "if you trust it, make a copy of your own in a directory of yours and install that")
}
