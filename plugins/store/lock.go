package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/atomicfile"
	"github.com/ternlm/tern/internal/regularfile"
)

// Limits of a lock file.
const (
	lockVersion = 1
	lockBytes   = 1 << 20
	lockPins    = 4096
)

// Pin says which binary of a plugin may run on a platform.
type Pin struct {
	Name      string    `json:"name"`
	Kind      string    `json:"kind"` // quantizer, residual or backend
	Version   string    `json:"version"`
	SHA256    string    `json:"sha256"`   // of the binary, 64 hexadecimal digits
	Platform  string    `json:"platform"` // such as linux/amd64
	Installed time.Time `json:"installed"`
}

// Lock is the content of a lock file. A plugin has at most one pin for a platform.
type Lock struct {
	Version int   `json:"version"`
	Pins    []Pin `json:"plugins"`
}

var (
	sumPattern      = regexp.MustCompile(`^[0-9a-f]{64}$`)
	platformPattern = regexp.MustCompile(`^[a-z0-9]{1,16}/[a-z0-9]{1,16}$`)
	versionPattern  = regexp.MustCompile(`^[0-9A-Za-z.+-]{1,128}$`)
	kinds           = []string{"quantizer", "residual", "backend"}
)

// check returns what is wrong with a pin.
func (p Pin) check() error {
	switch {
	case CheckName(p.Name) != nil:
		return errors.Wrapf(ErrLock, "name %.70q", p.Name)
	case !slices.Contains(kinds, p.Kind):
		return errors.Wrapf(ErrLock, "%s: kind %.70q", p.Name, p.Kind)
	case !versionPattern.MatchString(p.Version):
		return errors.Wrapf(ErrLock, "%s: version %.70q", p.Name, p.Version)
	case !sumPattern.MatchString(p.SHA256):
		return errors.Wrapf(ErrLock, "%s: sha256 %.70q", p.Name, p.SHA256)
	case !platformPattern.MatchString(p.Platform):
		return errors.Wrapf(ErrLock, "%s: platform %.70q", p.Name, p.Platform)
	}
	return nil
}

func (p Pin) key() string { return p.Name + " " + p.Platform }

// DecodeLock reads a lock file of at most 1 MiB. Everything that it does not know
// is ErrLock.
func DecodeLock(r io.Reader) (*Lock, error) {
	raw, err := io.ReadAll(io.LimitReader(r, lockBytes+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > lockBytes {
		return nil, errors.Wrapf(ErrLock, "it is larger than %d bytes", lockBytes)
	}
	var l Lock
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return nil, errors.Wrapf(ErrLock, "%v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.Wrap(ErrLock, "text after its end")
	}
	if l.Version != lockVersion {
		return nil, errors.WithHint(errors.Wrapf(ErrLock, "version %d, this tern reads %d", l.Version, lockVersion), "update tern")
	}
	if len(l.Pins) > lockPins {
		return nil, errors.Wrapf(ErrLock, "%d plugins, at most %d are allowed", len(l.Pins), lockPins)
	}
	seen := map[string]bool{}
	for _, p := range l.Pins {
		if err := p.check(); err != nil {
			return nil, err
		}
		if seen[p.key()] {
			return nil, errors.Wrapf(ErrLock, "%s is pinned twice for %s", p.Name, p.Platform)
		}
		seen[p.key()] = true
	}
	return &l, nil
}

// Pin returns the pin of a plugin for this platform.
func (l *Lock) Pin(name string) (Pin, bool) {
	for _, p := range l.Pins {
		if p.Name == name && p.Platform == Platform() {
			return p, true
		}
	}
	return Pin{}, false
}

// Set adds a pin, in the place of one for the same plugin and platform.
func (l *Lock) Set(p Pin) {
	l.Pins = slices.DeleteFunc(l.Pins, func(q Pin) bool { return q.key() == p.key() })
	l.Pins = append(l.Pins, p)
	slices.SortFunc(l.Pins, func(a, b Pin) int { return strings.Compare(a.key(), b.key()) })
}

// Remove takes the pins of a plugin away, for all platforms, and says whether
// there were any.
func (l *Lock) Remove(name string) bool {
	n := len(l.Pins)
	l.Pins = slices.DeleteFunc(l.Pins, func(p Pin) bool { return p.Name == name })
	return len(l.Pins) < n
}

// Encode writes l as DecodeLock reads it.
func (l *Lock) Encode() ([]byte, error) {
	for _, p := range l.Pins {
		if err := p.check(); err != nil {
			return nil, err
		}
	}
	l.Version = lockVersion
	if l.Pins == nil {
		l.Pins = []Pin{}
	}
	text, err := json.MarshalIndent(l, "", "  ")
	return append(text, '\n'), err
}

// LockPath is the path of the lock file.
func (s *Store) LockPath() (string, error) {
	if s.User == "" {
		_, err := UserDir()
		return "", err
	}
	return filepath.Join(s.User, LockName), nil
}

// ReadLock reads the lock file; one that is not there is empty. The file and its
// directory are checked as CheckFile and CheckDir do.
func (s *Store) ReadLock() (*Lock, error) {
	if s.User == "" {
		return &Lock{}, nil // nothing can be pinned
	}
	path := filepath.Join(s.User, LockName)
	f, _, err := regularfile.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return &Lock{}, nil
	}
	if err != nil {
		return nil, errors.Wrap(err, "lock file")
	}
	defer f.Close()
	if err := CheckDir(s.User); err != nil {
		return nil, err
	}
	if err := CheckFile(path); err != nil {
		return nil, err
	}
	l, err := DecodeLock(f)
	if errors.Is(err, ErrLock) {
		err = errors.WithHint(err, fmt.Sprintf("mend it, or remove %s and install the plugins again", quote(path)))
	}
	return l, errors.Wrapf(err, "%s", path)
}

// ChangeLock reads the lock file, has change work on it, and writes it, one
// process at a time: it waits a while for another one, then it is
// filelock.ErrHeld. Where the system or the file system knows no locks of files,
// one of two changes at the same moment may be lost: the plugin is then unpinned.
func (s *Store) ChangeLock(change func(*Lock) error) error {
	return s.alone(func() error { return s.changeLock(change) })
}

// changeLock is ChangeLock for who is alone.
func (s *Store) changeLock(change func(*Lock) error) error {
	path, err := s.LockPath()
	if err != nil {
		return err
	}
	l, err := s.ReadLock()
	if err != nil {
		return err
	}
	if err := change(l); err != nil {
		return err
	}
	text, err := l.Encode()
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, text)
}
