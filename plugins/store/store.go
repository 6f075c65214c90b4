package store

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
)

const (
	// Variable names the environment variable that lists directories of plugins,
	// separated as in PATH.
	Variable = "TERN_PLUGIN_PATH"
	// Prefix begins the file name of every plugin.
	Prefix = "tern-plugin-"
	// LockName is the lock file's name in the per-user directory.
	LockName = "tern-plugins.lock"
)

// Errors of finding and pinning.
var (
	ErrName     = errors.New("bad plugin name")
	ErrNotFound = errors.New("no such plugin")
	ErrUnsafe   = errors.New("others could change it")
	ErrUnpinned = errors.New("plugin is not pinned")
	ErrChanged  = errors.New("plugin is not the one that was pinned")
	ErrLock     = errors.New("malformed lock file")
)

// Origin says how a plugin was found.
type Origin string

// The origins, the first that has a plugin wins.
const (
	FromFlag Origin = "flag" // --plugin NAME=PATH
	FromPath Origin = "path" // a directory of TERN_PLUGIN_PATH
	FromUser Origin = "user" // the per-user directory
)

// Platform is what binaries of this machine are pinned for, such as "linux/amd64".
func Platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// CheckName returns ErrName, wrapped, for a name that no plugin can have.
func CheckName(name string) error {
	if namePattern.MatchString(name) {
		return nil
	}
	return errors.WithHint(errors.Wrapf(ErrName, "%q", name), "a plugin's name has lower-case letters, digits and dashes, at most 64, and no dash at its ends")
}

// FileName is the name of the binary of plugin name.
func FileName(name string) string {
	if runtime.GOOS == "windows" {
		return Prefix + name + ".exe"
	}
	return Prefix + name
}

// pluginName undoes FileName.
func pluginName(file string) (string, bool) {
	if runtime.GOOS == "windows" {
		file = strings.TrimSuffix(file, ".exe")
	}
	name, ok := strings.CutPrefix(file, Prefix)
	return name, ok && CheckName(name) == nil
}

// UserDir is the per-user directory, os.UserConfigDir()/tern/plugins.
func UserDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", errors.WithHint(errors.Wrap(err, "the per-user directory of plugins"), "set HOME")
	}
	return filepath.Join(dir, "tern", "plugins"), nil
}

// Store says where plugins lie.
type Store struct {
	Given map[string]string // absolute paths by name, from the command line
	Path  []string          // directories of TERN_PLUGIN_PATH
	User  string            // the per-user directory; "" where there is none
}

// Open returns the store of a user. path is the value of TERN_PLUGIN_PATH, given
// are pairs NAME=PATH. A relative directory in path would depend on the working
// directory: it is ErrUnsafe.
func Open(path string, given []string) (*Store, error) {
	s := &Store{Given: map[string]string{}}
	for _, g := range given {
		name, file, ok := strings.Cut(g, "=")
		if !ok || file == "" {
			return nil, errors.WithHint(errors.Wrapf(ErrName, "%q", g), "write NAME=PATH")
		}
		if err := CheckName(name); err != nil {
			return nil, err
		}
		abs, err := filepath.Abs(file)
		if err != nil {
			return nil, errors.Wrapf(err, "plugin %s", name)
		}
		if s.Given[name] != "" {
			return nil, errors.WithHint(errors.Wrapf(ErrName, "%s is given twice", name), "leave one of them out")
		}
		s.Given[name] = abs
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			err := errors.Wrapf(ErrUnsafe, "%s holds %q, which depends on the working directory", Variable, dir)
			return nil, errors.WithHint(err, "write absolute paths")
		}
		s.Path = append(s.Path, filepath.Clean(dir))
	}
	s.User, _ = UserDir() // those who need it ask again
	return s, nil
}

// Found is a plugin's binary. Nothing is known of what it holds.
type Found struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Origin Origin `json:"origin"`
}

// dir is a directory to look in.
type dir struct {
	path   string
	origin Origin
}

func (s *Store) dirs() []dir {
	var all []dir
	for _, p := range s.Path {
		all = append(all, dir{p, FromPath})
	}
	if s.User != "" {
		all = append(all, dir{s.User, FromUser})
	}
	return all
}

// Find returns the binary of a plugin, checked as CheckFile does. It returns
// ErrNotFound with the names that there are.
func (s *Store) Find(name string) (Found, error) {
	if err := CheckName(name); err != nil {
		return Found{}, err
	}
	if p := s.Given[name]; p != "" {
		return Found{name, p, FromFlag}, CheckFile(p)
	}
	for _, d := range s.dirs() {
		p := filepath.Join(d.path, FileName(name))
		if _, err := os.Lstat(p); err != nil {
			continue
		}
		err := CheckDir(d.path)
		if err == nil {
			err = CheckFile(p)
		}
		return Found{name, p, d.origin}, err
	}
	return Found{}, s.notFound(name)
}

func (s *Store) notFound(name string) error {
	var names, looked []string
	for _, f := range s.All() {
		names = append(names, f.Name)
	}
	for _, d := range s.dirs() {
		looked = append(looked, d.path)
	}
	err := errors.Wrapf(ErrNotFound, "%s: looked for %s in %s", name, FileName(name), strings.Join(looked, ", "))
	if len(looked) == 0 {
		err = errors.Wrapf(ErrNotFound, "%s: there is no directory to look in", name)
	}
	hint := "install it with: tern plugin install PATH"
	if near := framework.Nearest(name, names); near != "" {
		hint = "did you mean " + near + "? else " + hint
	}
	return errors.WithHint(err, hint)
}

// All lists what Find would find, by name. Files are not looked at.
func (s *Store) All() []Found {
	found := map[string]Found{}
	for name, p := range s.Given {
		found[name] = Found{name, p, FromFlag}
	}
	for _, d := range s.dirs() {
		entries, err := os.ReadDir(d.path)
		if err != nil {
			continue // as with PATH, a directory that is not there holds nothing
		}
		for _, e := range entries {
			name, ok := pluginName(e.Name())
			if _, taken := found[name]; ok && !taken {
				found[name] = Found{name, filepath.Join(d.path, e.Name()), d.origin}
			}
		}
	}
	all := make([]Found, 0, len(found))
	for _, f := range found {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b Found) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Resolve finds a plugin and its pin. The caller runs the binary only if its
// SHA-256 is the pin's.
func (s *Store) Resolve(name string) (Found, Pin, error) {
	f, err := s.Find(name)
	if err != nil {
		return f, Pin{}, err
	}
	l, err := s.ReadLock()
	if err != nil {
		return f, Pin{}, err
	}
	p, ok := l.Pin(name)
	if !ok {
		return f, p, errors.WithHint(errors.Wrapf(ErrUnpinned, "%s (%s)", name, f.Path), f.Accept())
	}
	return f, p, nil
}

// Verify compares a binary with its pin, the bytes too.
func (s *Store) Verify(name string) (Found, Pin, error) {
	f, p, err := s.Resolve(name)
	if err != nil {
		return f, p, err
	}
	sum, err := Hash(f.Path)
	if err != nil {
		return f, p, err
	}
	if sum != p.SHA256 {
		err := errors.Wrapf(ErrChanged, "%s (%s): its SHA-256 is %.12s..., %.12s... is pinned", name, f.Path, sum, p.SHA256)
		return f, p, errors.WithHint(err, f.Accept())
	}
	return f, p, nil
}

// Accept is the hint with the command that pins f as it is.
func (f Found) Accept() string {
	how := "tern plugin install " + quote(f.Path)
	if f.Origin == FromUser {
		how = "tern plugin install --pin-only " + quote(f.Path)
	}
	return "if you trust it as it is now, accept it with: " + how + " --name " + f.Name
}

// quote makes a word of the shell.
func quote(s string) string {
	if regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]+$`).MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
