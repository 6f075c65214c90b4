package checkpoint

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/atomicfile"
)

// Entry is a checkpoint's directory, which may be broken.
type Entry struct {
	Step int
	Dir  string
}

// Broken is a checkpoint that was passed over, and why.
type Broken struct {
	Dir string
	Err error
}

// Found is what LoadLatest found.
type Found struct {
	Dir      string
	Snapshot *Snapshot
	Broken   []Broken // newer ones that were passed over, newest first
}

// List returns the checkpoints in root, the highest step first, without
// looking into them. A root that does not exist has none.
func List(root string) ([]Entry, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errors.Wrap(err, "list checkpoints")
	}
	dirs := map[int]string{}
	for _, e := range entries {
		// A replaced one counts as long as its successor is not in place.
		name, old := strings.CutPrefix(e.Name(), oldPrefix)
		step, ok := parseName(name)
		if !ok || !e.IsDir() || old && dirs[step] != "" {
			continue
		}
		dirs[step] = filepath.Join(root, e.Name())
	}
	var out []Entry
	for step, dir := range dirs {
		out = append(out, Entry{step, dir})
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Compare(b.Step, a.Step) })
	return out, nil
}

// Latest returns the directory of the newest checkpoint in root that Verify
// accepts, and the newer ones that it does not. ErrNotFound if there is none.
func Latest(root string) (dir string, broken []Broken, err error) {
	return latest(root, Verify)
}

// LoadLatest loads the newest sound checkpoint in root. ErrNotFound if there is
// none; Broken is then filled in all the same.
func LoadLatest(root string) (Found, error) {
	var f Found
	var err error
	f.Dir, f.Broken, err = latest(root, func(dir string) error {
		var err error
		f.Snapshot, err = Load(dir)
		return err
	})
	return f, err
}

// latest returns the newest checkpoint that try accepts.
func latest(root string, try func(dir string) error) (dir string, broken []Broken, err error) {
	entries, err := List(root)
	if err != nil {
		return "", nil, err
	}
	for _, e := range entries {
		if err := try(e.Dir); err != nil {
			broken = append(broken, Broken{e.Dir, err})
			continue
		}
		return e.Dir, broken, nil
	}
	err = errors.Wrapf(ErrNotFound, "no checkpoint in %s", root)
	hint := "start without --resume, or name another run's directory"
	if len(broken) > 0 {
		err = errors.Wrapf(ErrNotFound, "none of the %d checkpoints in %s is usable, the newest because: %v", len(broken), root, broken[0].Err)
	}
	return "", broken, errors.WithHint(err, hint)
}

// Prune removes the oldest checkpoints of root and keeps the newest keep sound
// ones and whatever is newer than the last of these. Sound means here that
// the manifest is verified and the tensors have their size; they are not read.
// With fewer than keep sound ones nothing is removed. It returns the
// directories removed.
func Prune(root string, keep int) (removed []string, err error) {
	if keep < 1 {
		return nil, errors.WithHint(errors.Wrapf(ErrInvalid, "keep %d checkpoints", keep), "keep at least 1")
	}
	entries, err := List(root)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if keep == 0 {
			if err := remove(root, e); err != nil {
				return removed, errors.Wrapf(err, "prune checkpoint %s", e.Dir)
			}
			removed = append(removed, e.Dir)
			continue
		}
		if _, f, err := openQuick(e.Dir); err == nil {
			_ = f.Close() // only read
			keep--
		}
	}
	if len(removed) == 0 {
		return nil, nil
	}
	return removed, errors.Wrap(atomicfile.SyncDir(root), "prune checkpoints")
}

// remove takes a checkpoint's name away first: half a directory never looks
// like a checkpoint.
func remove(root string, e Entry) error {
	tmp := filepath.Join(root, tmpPrefix+Name(e.Step))
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Rename(e.Dir, tmp); err != nil {
		return err
	}
	return os.RemoveAll(tmp)
}
