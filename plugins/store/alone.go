package store

import (
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/filelock"
)

// turnName is the name of the file whose lock says who may change the lock file.
// It is another file: the lock file is replaced, and with it would go its lock.
const turnName = ".tern-plugins.turn"

// patience is how long a change waits for others. Each takes as long as a small
// file takes to reach the disk.
var patience = 10 * time.Second

// alone runs fn while no other process, and no other call in this one, changes
// the per-user directory, which it makes.
func (s *Store) alone(fn func() error) error {
	if _, err := s.LockPath(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.User, 0o755); err != nil {
		return errors.Wrap(err, "the per-user directory of plugins")
	}
	if err := CheckDir(s.User); err != nil {
		return err // before a file is made in what is somebody else's
	}
	turn, err := takeTurn(filepath.Join(s.User, turnName))
	if err != nil {
		return err
	}
	return errors.CombineErrors(fn(), turn.Release())
}

// takeTurn waits for the lock at path. It is nil where there are no locks of
// files.
func takeTurn(path string) (*filelock.Lock, error) {
	for begin := time.Now(); ; {
		l, err := filelock.Acquire(path) // waits a little
		switch {
		case err == nil:
			return l, nil
		case errors.Is(err, errors.ErrUnsupported):
			return nil, nil
		case !errors.Is(err, filelock.ErrHeld):
			return nil, errors.Wrap(err, "change the pinned plugins")
		case time.Since(begin) >= patience:
			err = errors.Wrapf(err, "change the pinned plugins: waited %v", patience)
			return nil, errors.WithHint(err, "another tern plugin command is at work: try again when it has ended")
		}
	}
}
