package store

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/regularfile"
)

// maxBinary bounds what is hashed and copied: 4 GiB.
const maxBinary = 4 << 30

// ErrSize is returned for a binary that is empty or larger than 4 GiB.
var ErrSize = errors.New("size of a plugin's binary")

func openBinary(path string) (*os.File, error) {
	f, size, err := regularfile.Open(path)
	if err != nil {
		return nil, errors.Wrap(err, "plugin")
	}
	if size == 0 || size > maxBinary {
		return nil, errors.CombineErrors(errors.Wrapf(ErrSize, "%s has %d bytes, at most %d are allowed", path, size, int64(maxBinary)), f.Close())
	}
	return f, nil
}

// Hash is the SHA-256 of the file at path, in hexadecimal.
func Hash(path string) (string, error) {
	f, err := openBinary(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxBinary)); err != nil {
		return "", errors.Wrapf(err, "read %s", path)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Stage copies the binary at path beside those of the per-user directory, to a
// file with mode 0755 that no plugin has, and hashes what it copied. The caller
// looks at it, then calls Keep or removes the file.
func (s *Store) Stage(path string) (staged, sum string, err error) {
	if _, err := s.LockPath(); err != nil {
		return "", "", err
	}
	if err := CheckFile(path); err != nil {
		return "", "", err
	}
	src, err := openBinary(path)
	if err != nil {
		return "", "", err
	}
	defer src.Close()
	if err := os.MkdirAll(s.User, 0o755); err != nil {
		return "", "", errors.Wrap(err, "the per-user directory of plugins")
	}
	if err := CheckDir(s.User); err != nil {
		return "", "", err
	}
	dst, err := os.CreateTemp(s.User, ".staged-*"+filepath.Ext(FileName("x")))
	if err != nil {
		return "", "", errors.Wrap(err, "install")
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(dst, h), io.LimitReader(src, maxBinary))
	if err == nil {
		err = dst.Chmod(0o755)
	}
	if err == nil {
		err = dst.Sync()
	}
	if err = errors.CombineErrors(err, dst.Close()); err != nil {
		return "", "", errors.CombineErrors(errors.Wrapf(err, "copy %s", path), os.Remove(dst.Name()))
	}
	return dst.Name(), hex.EncodeToString(h.Sum(nil)), nil
}

// Keep makes the staged binary that of the plugin p.Name, and pins it, both as
// one change. The pin comes first: a binary without it would run nowhere.
func (s *Store) Keep(staged string, p Pin) (path string, err error) {
	if err := CheckName(p.Name); err != nil {
		return "", err
	}
	path = filepath.Join(s.User, FileName(p.Name))
	err = s.alone(func() error {
		if err := s.changeLock(func(l *Lock) error { l.Set(p); return nil }); err != nil {
			return err
		}
		return errors.Wrap(os.Rename(staged, path), "install")
	})
	if err != nil {
		return "", err
	}
	return path, nil
}

// Remove takes a plugin's pin and its binary in the per-user directory away, as
// one change. It returns ErrNotFound where there is neither.
func (s *Store) Remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return s.alone(func() error {
		had := false
		if err := s.changeLock(func(l *Lock) error { had = l.Remove(name); return nil }); err != nil {
			return err
		}
		err := os.Remove(filepath.Join(s.User, FileName(name)))
		if errors.Is(err, os.ErrNotExist) {
			if had {
				return nil
			}
			return s.notFound(name)
		}
		return errors.Wrap(err, "remove")
	})
}
