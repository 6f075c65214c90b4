package checkpoint

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/safetensors"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/atomicfile"
)

// Save writes s as a checkpoint in root, which is made if missing, and returns
// the checkpoint's directory. It is written beside its place, brought to the
// disk and renamed: a process killed at any moment, a full disk or a power cut
// leaves the checkpoints that were there, and a new one whole or not at all. A
// checkpoint of the same step is replaced in the same way. What an earlier
// Save left behind is cleaned up first. Errors are ErrInvalid and those of the
// file system.
func Save(root string, s Snapshot) (dir string, err error) {
	return saver{}.save(root, s)
}

// saver is Save with a hook that tests use to stop it between two effects.
type saver struct {
	at   func(point string)
	wrap func(io.Writer) io.Writer // of each file
}

func (v saver) reach(point string) {
	if v.at != nil {
		v.at(point)
	}
}

func (v saver) save(root string, s Snapshot) (dir string, err error) {
	name := Name(s.Step)
	dir = filepath.Join(root, name)
	defer func(dir string) { err = explain(err, dir) }(dir)
	if s.Step < 0 {
		return "", errors.Wrapf(ErrInvalid, "step %d", s.Step)
	}
	if err := v.begin(root); err != nil {
		return "", err
	}
	tmp := filepath.Join(root, tmpPrefix+name)
	if err := os.Mkdir(tmp, 0o777); err != nil {
		return "", err
	}
	v.reach("directory made")
	if err := v.fill(tmp, s); err != nil {
		return "", errors.CombineErrors(err, os.RemoveAll(tmp))
	}
	if err := v.place(root, name); err != nil {
		return "", errors.CombineErrors(err, os.RemoveAll(tmp))
	}
	return dir, nil
}

// begin makes root and ends what a killed Save left in it.
func (v saver) begin(root string) error {
	if _, err := os.Stat(root); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(root, 0o777); err != nil {
			return err
		}
		if err := atomicfile.SyncDir(filepath.Dir(root)); err != nil {
			return err
		}
	}
	v.reach("begin")
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := finish(root, e.Name()); err != nil {
			return err
		}
		v.reach("cleaned up")
	}
	return nil
}

// finish ends the unfinished business that an entry of root stands for.
func finish(root, entry string) error {
	path := filepath.Join(root, entry)
	if name, ok := strings.CutPrefix(entry, oldPrefix); ok && isStep(name) {
		final := filepath.Join(root, name)
		if _, err := os.Lstat(final); errors.Is(err, os.ErrNotExist) {
			return os.Rename(path, final) // its successor never came
		}
		return os.RemoveAll(path)
	}
	if name, ok := strings.CutPrefix(entry, tmpPrefix); ok && isStep(name) {
		return os.RemoveAll(path)
	}
	return nil
}

func isStep(name string) bool {
	_, ok := parseName(name)
	return ok
}

// fill writes the two files into dir and brings them and dir to the disk.
func (v saver) fill(dir string, s Snapshot) error {
	entries, err := s.entries()
	if err != nil {
		return err
	}
	info, err := v.write(filepath.Join(dir, tensorsFile), func(w io.Writer) error {
		return safetensors.Write(w, nil, entries)
	})
	if errors.Is(err, safetensors.ErrFormat) {
		return errors.Mark(err, ErrInvalid)
	}
	if err != nil {
		return err
	}
	m := Manifest{
		Format: formatVersion, CreatedBy: s.CreatedBy, Step: s.Step, Cursor: s.Cursor, Seed: s.Seed,
		Config: s.Config, Extra: s.Extra, Files: map[string]FileInfo{tensorsFile: info},
	}
	data, err := m.encode()
	if err != nil {
		return err
	}
	_, err = v.write(filepath.Join(dir, manifestFile), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	v.reach("files written")
	return atomicfile.SyncDir(dir)
}

// entries are the tensors of s in the order of their names.
func (s *Snapshot) entries() ([]safetensors.Entry, error) {
	var all []safetensors.Entry
	var area []byte
	for _, name := range slices.Sorted(maps.Keys(s.Tensors)) {
		t := s.Tensors[name]
		if t == nil {
			return nil, errors.Wrapf(ErrInvalid, "tensor %q is nil", name)
		}
		e := safetensors.Of(name, t)
		if s.Read != nil {
			e.Data = func(w io.Writer) error {
				bytes := t.Type.Bytes()
				if len(area) < bytes {
					area = tensor.AlignedBytes(bytes)
				}
				dst := tensor.Tensor{Type: t.Type, Data: area[:bytes]}
				if err := s.Read(name, &dst); err != nil {
					return err
				}
				return safetensors.Of(name, &dst).Data(w)
			}
		}
		all = append(all, e)
	}
	return all, nil
}

// write writes a new file, brings it to the disk, and returns its size and
// hash.
func (v saver) write(path string, fn func(io.Writer) error) (info FileInfo, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return info, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	v.reach("file made")
	var out io.Writer = f
	if v.wrap != nil {
		out = v.wrap(f)
	}
	buf, hash := bufio.NewWriterSize(out, 1<<20), sha256.New()
	if err := fn(io.MultiWriter(buf, hash)); err != nil {
		return info, err
	}
	if err := buf.Flush(); err != nil {
		return info, err
	}
	v.reach("file written")
	if err := f.Sync(); err != nil {
		return info, err
	}
	st, err := f.Stat()
	if err != nil {
		return info, err
	}
	return FileInfo{st.Size(), hex.EncodeToString(hash.Sum(nil))}, nil
}

// place renames the finished temporary directory of name to name.
func (v saver) place(root, name string) error {
	tmp, final, old := filepath.Join(root, tmpPrefix+name), filepath.Join(root, name), filepath.Join(root, oldPrefix+name)
	v.reach("finished")
	_, err := os.Lstat(final)
	replace := err == nil
	if replace {
		if err := os.Rename(final, old); err != nil {
			return err
		}
		v.reach("old one moved")
	}
	if err := os.Rename(tmp, final); err != nil {
		if replace {
			err = errors.CombineErrors(err, os.Rename(old, final))
		}
		return err
	}
	v.reach("renamed")
	if err := atomicfile.SyncDir(root); err != nil {
		return err
	}
	v.reach("synced")
	if replace {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
		v.reach("old one removed")
	}
	return nil
}

// explain says what was being done and what the user can do.
func explain(err error, dir string) error {
	if err == nil {
		return nil
	}
	err = errors.Wrapf(err, "save checkpoint %s", dir)
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG) || errors.Is(err, syscall.EDQUOT):
		return errors.WithHint(err, "there is no room: free some space or keep fewer checkpoints; those saved before are untouched")
	case errors.Is(err, os.ErrPermission):
		return errors.WithHint(err, "choose a directory that you may write to")
	case errors.Is(err, ErrInvalid):
		return errors.WithHint(err, "the trainer made a snapshot that cannot be stored; please report this")
	}
	return err
}
