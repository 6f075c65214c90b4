package process

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/cockroachdb/errors"
)

// directoryPrefix begins the names of the directories of sockets. No other
// program's directory may be taken for one.
const directoryPrefix = "tern-s-"

// ownerName is the file in such a directory that its process holds locked: when
// the process ends, however it ends, the system lets the lock go.
const ownerName = "owner"

// socketsPrefix begins what go-plugin makes in it.
const socketsPrefix = "plugin-dir"

// directory is where a plugin's socket lies.
type directory struct {
	path  string
	owner *os.File // locked; nil where there are no locks
}

// directories is where the directories of sockets are made. The path of a unix
// socket has at most 103 bytes, of which go-plugin takes about 40.
func directories() string {
	base := os.TempDir()
	if len(base) > 40 && runtime.GOOS != "windows" {
		base = "/tmp"
	}
	return base
}

// maxTries is how often a directory is made anew because one that sweeps took it
// before it was locked.
const maxTries = 1000

// newDirectory makes a directory that only this user may enter.
func newDirectory(base string) (directory, error) {
	for try := 0; ; try++ {
		path, err := os.MkdirTemp(base, directoryPrefix)
		if err != nil {
			return directory{}, err
		}
		owner, err := own(filepath.Join(path, ownerName))
		if err == nil {
			return directory{path, owner}, nil
		}
		// Another process that sweeps may have come between, and, on a busy
		// machine, several times in a row.
		if try == maxTries || !errors.Is(err, errTaken) && !errors.Is(err, os.ErrNotExist) {
			return directory{}, errors.CombineErrors(err, os.RemoveAll(path))
		}
	}
}

// remove removes the directory.
func (d directory) remove() {
	_ = os.RemoveAll(d.path)
	if d.owner != nil {
		_ = d.owner.Close()
	}
}

// sweepOnce removes what killed processes left, once in this process and beside
// its work.
var sweepOnce = sync.OnceFunc(func() { go sweep(directories()) })

// Limits of a sweep: entries of the temporary directory that are looked at, and
// directories that are removed.
const (
	maxLooked = 10_000
	maxSwept  = 100
)

// sweep removes the directories of sockets in base whose processes are gone, and
// says how many. What is not exactly such a directory stays.
func sweep(base string) (n int) {
	f, err := os.Open(base)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	for looked := 0; looked < maxLooked && n < maxSwept; {
		names, err := f.Readdirnames(500)
		for _, name := range names {
			if n < maxSwept && len(name) > len(directoryPrefix) && name[:len(directoryPrefix)] == directoryPrefix && sweepOne(filepath.Join(base, name)) {
				n++
			}
		}
		if looked += len(names); err != nil {
			break // io.EOF, or there is no more to see
		}
	}
	return n
}

// sweepOne removes a directory whose process is gone. It is opened once and
// then worked in by that opening: its name may come to mean something else.
func sweepOne(path string) bool {
	if st, err := os.Lstat(path); err != nil || !st.IsDir() {
		return false
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return false
	}
	defer func() { _ = root.Close() }()
	names, ok := leftBehind(root)
	if !ok {
		return false
	}
	owner, err := disown(root)
	if err != nil {
		return false // it is at work, or just coming into being
	}
	defer func() { _ = owner.Close() }()
	for _, name := range names {
		if root.RemoveAll(name) != nil {
			return false
		}
	}
	return os.Remove(path) == nil // and only if it is empty
}

// leftBehind lists what is in a directory of sockets of this user's; false for
// anything else.
func leftBehind(root *os.Root) ([]string, bool) {
	f, err := root.Open(".")
	if err != nil {
		return nil, false
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil || st.Mode().Perm() != 0o700 || !mine(st) {
		return nil, false
	}
	names, _ := f.Readdirnames(4) // io.EOF when there are fewer
	if len(names) > 3 {
		return nil, false
	}
	var out []string
	for _, name := range names {
		switch {
		case name == ownerName: // removed last: until then it says whose turn it is
		case len(name) > len(socketsPrefix) && name[:len(socketsPrefix)] == socketsPrefix:
			out = append(out, name)
		default:
			return nil, false
		}
	}
	return append(out, ownerName), true
}
