package gpu

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/plugins/store"
)

// Errors of finding the plugin. Others are those of package plugins/store.
var (
	ErrNoPlugin = errors.New("tern-plugin-cuda is not there")
	ErrBuild    = errors.New("tern-plugin-cuda is of another build")
)

// buildCommand makes the plugin.
const buildCommand = "go build -o DIR ./backends/gpu/cmd/tern-plugin-cuda"

// stores says where the user keeps plugins.
var stores atomic.Pointer[func() (*store.Store, error)]

// UseStore has the plugin looked for in s, which a program makes of its flags.
// Without it the store is that of the environment.
func UseStore(s func() (*store.Store, error)) { stores.Store(&s) }

// finder is where the plugin is looked for.
type finder struct {
	store   func() (*store.Store, error)
	program func() (string, error) // the path of the one that runs
	self    build
	read    func(path string) (build, error)
}

// found is a program that may be run.
type found struct {
	path   string
	sha256 string // that it must have, "" for one beside this program
}

// here finds the plugin of this process.
func here() finder {
	f := finder{program: os.Executable, read: readBuild}
	if info, ok := debug.ReadBuildInfo(); ok {
		f.self = buildOf(info)
	}
	if s := stores.Load(); s != nil {
		f.store = *s
	} else {
		f.store = func() (*store.Store, error) { return store.Open(os.Getenv(store.Variable), nil) }
	}
	return f
}

// find returns the plugin. What the user names wins, then the one that came with
// this program: one that was installed for an earlier version must not be taken
// before it.
func (f finder) find() (found, error) {
	s, err := f.store()
	if err != nil {
		return found{}, err
	}
	kept, missing := s.Find(pluginName)
	if missing != nil && !errors.Is(missing, store.ErrNotFound) {
		return found{}, missing
	}
	if missing != nil || kept.Origin == store.FromUser {
		beside, looked, err := f.beside()
		if err != nil {
			return found{}, err
		}
		if beside != "" {
			return found{path: beside}, nil
		}
		if missing != nil {
			return found{}, nowhere(s, looked)
		}
	}
	kept, pin, err := s.Resolve(pluginName)
	return found{kept.Path, pin.SHA256}, err
}

// beside returns the plugin that lies next to this program, "" where there is
// none, and the directories that were looked into.
func (f finder) beside() (path string, looked []string, err error) {
	program, err := f.program()
	if err == nil {
		program, err = filepath.EvalSymlinks(program)
	}
	if err != nil {
		return "", nil, nil // the system does not say where this program lies
	}
	dir := filepath.Dir(program)
	above := filepath.Dir(dir)
	for _, d := range []string{dir, filepath.Join(above, "libexec", "tern"), filepath.Join(above, "lib", "tern")} {
		looked = append(looked, d)
		path := filepath.Join(d, store.FileName(pluginName))
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		return path, looked, f.accept(d, path)
	}
	return "", looked, nil
}

// accept refuses a file that others may change, and one of another build: the two
// sides of a graph must mean the same by every op, and nothing else would tell
// that they do not.
func (f finder) accept(dir, path string) error {
	if err := store.CheckDir(dir); err != nil {
		return err
	}
	if err := store.CheckFile(path); err != nil {
		return err
	}
	b, err := f.read(path)
	if err != nil {
		return errors.WithHint(errors.Wrapf(ErrBuild, "%s: %v", path, err), "build it again: "+buildCommand)
	}
	if diff := f.self.differs(b); diff != "" {
		err := errors.Wrapf(ErrBuild, "%s %s", path, diff)
		return errors.WithHintf(err, "build both from one checkout: %s, or install the plugin to take it as it is: tern plugin install %s", buildCommand, path)
	}
	return nil
}

// nowhere says where the plugin was looked for and how to get it.
func nowhere(s *store.Store, beside []string) error {
	looked := append(append([]string{}, s.Path...), beside...)
	if s.User != "" {
		looked = append(looked, s.User)
	}
	err := errors.Wrapf(ErrNoPlugin, "looked for %s in %s", store.FileName(pluginName), strings.Join(looked, ", "))
	return errors.WithHintf(err, "build it beside this program, in a checkout of tern: %s (docs/gpu.md)", buildCommand)
}
