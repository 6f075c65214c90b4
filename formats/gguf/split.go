package gguf

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

// The metadata keys of a part of a split file, as llama.cpp's gguf-split
// writes them: the part's index (u16, from 0), the number of parts (u16) and of
// tensors in all parts (i32). A count of 0 or 1 is no split.
const (
	KeySplitNo      = "split.no"
	KeySplitCount   = "split.count"
	KeySplitTensors = "split.tensors.count"
)

// maxParts bounds how many files are open for one File.
const maxParts = 1000

// PartPath returns the path of part i, from 0, of a split file of n parts
// whose path without parts is path: for "m.gguf" it is
// "m-00001-of-00003.gguf", by which llama.cpp and others find the parts.
func PartPath(path string, i, n int) string {
	return fmt.Sprintf("%s-%05d-of-%05d.gguf", strings.TrimSuffix(path, ".gguf"), i+1, n)
}

// wholePath undoes PartPath; false if path is not named so.
func wholePath(path string, i, n int) (string, bool) {
	prefix, ok := strings.CutSuffix(path, PartPath("", i, n))
	return prefix + ".gguf", ok && filepath.Base(path) != PartPath("", i, n)
}

// splitting is what a part says about its place.
type splitting struct{ no, count, tensors int }

// splitting reads a part's keys; a count of 0 where there are none. Errors are
// ErrFormat.
func (m Metadata) splitting() (s splitting, err error) {
	count := func(key string, limit int) int {
		n, e := m.Int(key, limit)
		if e != nil && err == nil && !errors.Is(e, ErrNotFound) {
			err = errors.Mark(e, ErrFormat)
		}
		return n
	}
	s = splitting{no: count(KeySplitNo, 1<<16-1), count: count(KeySplitCount, maxParts), tensors: count(KeySplitTensors, 1<<31-1)}
	return s, err
}

// withoutSplitting returns the entries that describe a whole file.
func withoutSplitting(meta []KV) []KV {
	return slices.DeleteFunc(slices.Clone(meta), func(kv KV) bool {
		return kv.Key == KeySplitNo || kv.Key == KeySplitCount || kv.Key == KeySplitTensors
	})
}

// openParts opens the other parts of f, which was opened at path and may be
// the first of several, and makes f the whole.
func (f *File) openParts(path string) error {
	s, err := f.Metadata.splitting()
	if err != nil {
		return errors.Wrapf(err, "read %s", path)
	}
	if s.count <= 1 {
		return nil
	}
	whole, ok := wholePath(path, s.no, s.count)
	switch {
	case s.no != 0 && ok:
		return errors.WithHintf(errors.Wrapf(ErrFormat, "%s is part %d of %d", path, s.no+1, s.count), "name the first part, %s", PartPath(whole, 0, s.count))
	case s.no != 0:
		return errors.WithHintf(errors.Wrapf(ErrFormat, "%s is part %d of %d", path, s.no+1, s.count), "name the first part; its name ends in %s", PartPath("", 0, s.count))
	case !ok:
		return errors.WithHintf(errors.Wrapf(ErrFormat, "%s is the first of %d parts, but not named so", path, s.count),
			"give the parts their names back, which end in %s and so on", PartPath("", 0, s.count))
	}
	for i := 1; i < s.count; i++ {
		if err := f.openPart(PartPath(whole, i, s.count), i, s.count); err != nil {
			return err
		}
	}
	if len(f.Tensors) != s.tensors {
		return errors.Wrapf(malformed("%s says %d, the %d parts have %d tensors", KeySplitTensors, s.tensors, s.count, len(f.Tensors)), "read %s", path)
	}
	f.Metadata = withoutSplitting(f.Metadata)
	return nil
}

// openPart opens part no of count at path and adds its tensors to f.
func (f *File) openPart(path string, no, count int) error {
	g, err := openOne(path)
	if errors.Is(err, os.ErrNotExist) {
		return errors.WithHintf(errors.Wrapf(errors.Mark(err, ErrFormat), "part %d of %d is missing", no+1, count),
			"put all %d parts into one directory", count)
	} else if err != nil {
		return err
	}
	f.parts = append(f.parts, g.parts[0]) // from here on f closes it
	if err := g.isPart(no, count); err != nil {
		return errors.Wrapf(err, "read %s", path)
	}
	for _, t := range g.Tensors {
		if i, ok := f.byName[t.Name]; ok {
			return errors.Wrapf(malformed("tensor %q is in %s too", t.Name, f.parts[f.Tensors[i].Part].path), "read %s", path)
		}
		f.byName[t.Name] = len(f.Tensors)
		t.Part = no
		f.Tensors = append(f.Tensors, t)
	}
	f.Size += g.Size
	return nil
}

// isPart checks that f says it is part no of count. A part after the first may
// leave the count out.
func (f *File) isPart(no, count int) error {
	s, err := f.Metadata.splitting()
	if err != nil {
		return err
	}
	if _, ok := f.Metadata.Get(KeySplitNo); !ok || s.no != no {
		return malformed("%s is %d, %d is expected of this part", KeySplitNo, s.no, no)
	}
	if _, ok := f.Metadata.Get(KeySplitCount); ok && s.count != count {
		return malformed("%s is %d, the first part says %d", KeySplitCount, s.count, count)
	}
	return nil
}
