package filelock

import (
	"encoding/json"
	"io"
	"os"
	"time"

	"github.com/cockroachdb/errors"
)

// ErrHeld is returned for a lock that another process has.
var ErrHeld = errors.New("locked")

// errBusy is what the system says of a lock that cannot be had now.
var errBusy = errors.New("busy")

// Holder says who has a lock.
type Holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// Lock is a lock that this process has.
type Lock struct{ f *os.File }

// maxHolder bounds what is read of a lock's file.
const maxHolder = 4096

// A look at a lock (Held) takes it for a moment: whoever wants it tries again for
// a while.
const (
	patience = 300 * time.Millisecond
	between  = 10 * time.Millisecond
)

// Acquire locks the file at path, which is made if it is not there and stays
// when the lock is given back: removing it would let two processes lock two
// files of one name. Its directory must exist. ErrHeld, with the holder where it
// is known, when another process has the lock.
func Acquire(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, errors.Wrap(err, "lock")
	}
	for begin := time.Now(); ; time.Sleep(between) {
		err = lock(f, true)
		if !errors.Is(err, errBusy) || time.Since(begin) > patience {
			break
		}
	}
	if errors.Is(err, errBusy) {
		h := holder(f)
		_ = f.Close() // nothing was written
		if h.PID == 0 {
			return nil, errors.Wrapf(ErrHeld, "%s: another process holds it", path)
		}
		return nil, errors.Wrapf(ErrHeld, "%s: process %d on %s holds it since %s", path, h.PID, h.Host, h.Since.Format(time.DateTime))
	}
	if err == nil {
		err = sign(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, errors.Wrapf(err, "lock %s", path)
	}
	return &Lock{f}, nil
}

// sign writes who this process is. A full disk is no reason to go without the
// lock: it is the system's, and the words are for people.
func sign(f *os.File) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	text, err := json.Marshal(Holder{PID: os.Getpid(), Host: host, Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, _ = f.WriteAt(append(text, '\n'), 0)
	return nil
}

// Release gives the lock back.
func (l *Lock) Release() error {
	if l == nil || l.f == nil {
		return nil
	}
	err := l.f.Truncate(0)
	err = errors.CombineErrors(err, l.f.Close())
	l.f = nil
	return errors.Wrap(err, "release lock")
}

// Held reports whether a process has the lock at path, and who where it is
// known. A file that does not exist is no lock.
func Held(path string) (Holder, bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return Holder{}, false, nil
	}
	if err != nil {
		return Holder{}, false, errors.Wrap(err, "look at lock")
	}
	defer f.Close()
	switch err := lock(f, false); {
	case err == nil:
		return Holder{}, false, nil // and Close gives it back
	case errors.Is(err, errBusy):
		return holder(f), true, nil
	default:
		return Holder{}, false, errors.Wrapf(err, "look at lock %s", path)
	}
}

// holder reads who has a lock; what cannot be read is nobody known.
func holder(f *os.File) (h Holder) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxHolder))
	if err != nil || json.Unmarshal(text, &h) != nil {
		return Holder{}
	}
	return h
}
