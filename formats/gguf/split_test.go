package gguf

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/tensor"
)

// splitFile was written by gguf-py, in three parts; testdata/ggml.py is the
// program.
const splitFile = "testdata/split-00001-of-00003.gguf"

func TestReadsTheSplitFileOfGgufPy(t *testing.T) {
	f := openFile(t, splitFile)
	if diff := cmp.Diff(Metadata{{"general.architecture", "tern-test"}, {"general.name", "in three parts"}}, f.Metadata); diff != "" {
		t.Error(diff)
	}
	want := []Tensor{ // as gguf-py's reader lists the parts
		{"blk.0", ggml.F32, tensor.Shape{3}, 288, 12, 0},
		{"blk.1", ggml.F32, tensor.Shape{4}, 320, 16, 0},
		{"blk.2", ggml.F32, tensor.Shape{5}, 192, 20, 1},
		{"blk.3", ggml.F32, tensor.Shape{6}, 224, 24, 1},
		{"blk.4", ggml.F32, tensor.Shape{7}, 160, 28, 2},
	}
	if diff := cmp.Diff(want, f.Tensors); diff != "" {
		t.Error(diff)
	}
	if f.Size != 352+256+192 || len(f.Parts()) != 3 || f.Parts()[2] != "testdata/split-00003-of-00003.gguf" {
		t.Errorf("%d bytes in %v", f.Size, f.Parts())
	}
	for i, x := range f.Tensors {
		values, err := f.ReadTensor(x.Name)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range values.F32() {
			if v != float32(10*i+k) {
				t.Errorf("%s: %v", x.Name, values.F32())
				break
			}
		}
		section := must(f.Section(x.Name))
		if got := must(io.ReadAll(section)); !bytes.Equal(got, values.Data) {
			t.Errorf("%s: the section has other bytes", x.Name)
		}
		if got := must(f.View(x.Name)); !bytes.Equal(got, values.Data) {
			t.Errorf("%s: the view has other bytes", x.Name)
		}
	}
}

// piece is one part to be damaged by a test.
type piece struct {
	name    string
	meta    []KV
	tensors []TensorInfo
}

// pieces returns the three parts of a split file.
func pieces(t *testing.T) []piece {
	t.Helper()
	parts := make([]piece, 3)
	for i := range parts {
		parts[i] = piece{PartPath("m.gguf", i, 3), partMetadata([]KV{{"k", true}}, i, 3, 3), []TensorInfo{plain(t, fmt.Sprint("w", i), tensor.FromF32([]float32{1}, 1))}}
	}
	return parts
}

// set returns meta with another value at key.
func set(meta []KV, key string, v any) []KV {
	out := make([]KV, len(meta))
	for i, kv := range meta {
		if out[i] = kv; kv.Key == key {
			out[i].Value = v
		}
	}
	return out
}

func without(meta []KV, key string) (out []KV) {
	for _, kv := range meta {
		if kv.Key != key {
			out = append(out, kv)
		}
	}
	return out
}

func TestOpenRefusesPartsThatDoNotBelongTogether(t *testing.T) {
	const first, second, third = "m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"
	for name, c := range map[string]struct {
		damage func(p []piece) []piece
		open   string
		file   string // that the error names
		says   string
	}{
		"sound":             {func(p []piece) []piece { return p }, first, "", ""},
		"count left out":    {func(p []piece) []piece { p[1].meta = without(p[1].meta, KeySplitCount); return p }, first, "", ""},
		"not the first":     {func(p []piece) []piece { return p }, second, second, "part 2 of 3"},
		"missing part":      {func(p []piece) []piece { return p[:2] }, first, third, "part 3 of 3 is missing"},
		"renamed":           {func(p []piece) []piece { p[0].name = "a.gguf"; return p }, "a.gguf", "a.gguf", "not named so"},
		"renamed, no first": {func(p []piece) []piece { p[1].name = "a.gguf"; return p }, "a.gguf", "a.gguf", "part 2 of 3"},
		"only a suffix":     {func(p []piece) []piece { p[0].name = first[1:]; return p }, first[1:], first[1:], "not named so"},
		"parts exchanged":   {func(p []piece) []piece { p[1].name, p[2].name = third, second; return p }, first, second, "split.no is 2, 1 is expected"},
		"no number":         {func(p []piece) []piece { p[2].meta = without(p[2].meta, KeySplitNo); return p }, first, third, "split.no"},
		"number a string":   {func(p []piece) []piece { p[2].meta = set(p[2].meta, KeySplitNo, "2"); return p }, first, third, "holds a string"},
		"number negative":   {func(p []piece) []piece { p[2].meta = set(p[2].meta, KeySplitNo, int32(-2)); return p }, first, third, "negative"},
		"other count":       {func(p []piece) []piece { p[1].meta = set(p[1].meta, KeySplitCount, uint16(4)); return p }, first, second, "split.count is 4"},
		"count too large":   {func(p []piece) []piece { p[0].meta = set(p[0].meta, KeySplitCount, uint16(1001)); return p }, first, first, "at most 1000"},
		"count a float":     {func(p []piece) []piece { p[0].meta = set(p[0].meta, KeySplitCount, float32(3)); return p }, first, first, "holds a f32"},
		"count of the name": {func(p []piece) []piece { p[0].meta = set(p[0].meta, KeySplitCount, uint16(2)); return p }, first, first, "not named so"},
		"tensor twice":      {func(p []piece) []piece { p[2].tensors[0].Name = "w0"; return p }, first, third, "tensor \"w0\" is in"},
		"tensors too few":   {func(p []piece) []piece { p[1].tensors = nil; return p }, first, first, "3 parts have 2 tensors"},
		"total left out":    {func(p []piece) []piece { p[0].meta = without(p[0].meta, KeySplitTensors); return p }, first, first, "says 0"},
		"total too large":   {func(p []piece) []piece { p[0].meta = set(p[0].meta, KeySplitTensors, int32(4)); return p }, first, first, "says 4"},
	} {
		dir := t.TempDir()
		for _, p := range c.damage(pieces(t)) {
			if err := WriteFile(filepath.Join(dir, p.name), p.meta, p.tensors); err != nil {
				t.Fatal(err)
			}
		}
		f, err := Open(filepath.Join(dir, c.open))
		if c.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if err := f.Close(); err != nil || len(f.Tensors) != 3 {
				t.Errorf("%s: %d tensors, %v", name, len(f.Tensors), err)
			}
			continue
		}
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), filepath.Join(dir, c.file)) {
			t.Errorf("%s: %v, want something with %q and %s", name, err, c.says, c.file)
		} else if len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: no hint in %v", name, err)
		}
	}
}

func TestAnotherPartNamesTheFirst(t *testing.T) {
	_, err := Open("testdata/split-00002-of-00003.gguf")
	if hints := errors.GetAllHints(err); len(hints) != 1 || !strings.Contains(hints[0], splitFile) {
		t.Errorf("%v, %q", err, hints)
	}
}

// TestDamagedPartIsNamed cuts and exchanges the second part.
func TestDamagedPartIsNamed(t *testing.T) {
	for name, data := range map[string][]byte{"empty": nil, "cut": must(os.ReadFile("testdata/split-00002-of-00003.gguf"))[:200]} {
		dir := t.TempDir()
		for i := range 3 {
			p := PartPath("split.gguf", i, 3)
			content := must(os.ReadFile(filepath.Join("testdata", p)))
			if i == 1 {
				content = data
			}
			if err := os.WriteFile(filepath.Join(dir, p), content, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Open(filepath.Join(dir, PartPath("split.gguf", 0, 3)))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), PartPath("split.gguf", 1, 3)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMergedFileOfLlamaCpp has the keys that gguf-split --merge leaves.
func TestMergedFileOfLlamaCpp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "merged.gguf")
	meta := []KV{{KeySplitNo, uint16(0)}, {KeySplitCount, uint16(0)}, {KeySplitTensors, int32(7)}}
	if err := WriteFile(path, meta, nil); err != nil {
		t.Fatal(err)
	}
	if f := openFile(t, path); len(f.Metadata) != 3 {
		t.Errorf("%v", f.Metadata)
	}
}

func TestWriteSplitReadsAsTheWhole(t *testing.T) {
	meta, tensors := sample(t)
	meta = append(meta, KV{KeyAlignment, uint32(64)}, KV{KeySplitCount, uint16(9)})
	whole := read(t, write(t, withoutSplitting(meta), tensors))
	for _, c := range []struct{ maxBytes, parts int }{{1, 6}, {500, 5}, {1 << 20, 1}} {
		path := filepath.Join(t.TempDir(), "m.gguf")
		paths, err := WriteSplit(path, meta, tensors, int64(c.maxBytes))
		if err != nil || len(paths) < min(c.parts, 2) || len(paths) > c.parts {
			t.Fatalf("%d bytes: %v, %v", c.maxBytes, paths, err)
		}
		for i, p := range paths {
			one := read(t, must(os.ReadFile(p)))
			if st := must(os.Stat(p)); st.Size() > int64(c.maxBytes) && len(one.Tensors) > 1 {
				t.Errorf("%s: %d bytes, %d tensors", p, st.Size(), len(one.Tensors))
			}
			if one.Alignment != 64 || len(paths) > 1 && p != PartPath(path, i, len(paths)) {
				t.Errorf("%s: alignment %d", p, one.Alignment)
			}
		}
		f := openFile(t, paths[0])
		if diff := cmp.Diff(whole.Metadata, f.Metadata); diff != "" {
			t.Errorf("%d bytes: %s", c.maxBytes, diff)
		}
		if d, err := Diff(whole, f); err != nil || !d.Equal() {
			t.Errorf("%d bytes: %+v, %v", c.maxBytes, d, err)
		}
		if !bytes.Equal(rewrite(t, whole), rewrite(t, f)) {
			t.Errorf("%d bytes: written whole, the bytes differ", c.maxBytes)
		}
	}
}

// TestWriteSplitFillsParts has tensors of which exactly two fit in a part.
func TestWriteSplitFillsParts(t *testing.T) {
	var tensors []TensorInfo
	for i := range 6 {
		tensors = append(tensors, FromBytes(fmt.Sprint("w", i), ggml.I8, tensor.Shape{1024}, make([]byte, 1024)))
	}
	dir := t.TempDir()
	paths, err := WriteSplit(filepath.Join(dir, "m"), nil, tensors, 1<<20)
	if err != nil || len(paths) != 1 {
		t.Fatalf("%v, %v", paths, err)
	}
	exact := must(Size(partMetadata(nil, 0, 3, 6), tensors[:2]))
	for _, c := range []struct {
		max   int64
		parts int
	}{{exact, 3}, {exact - 1, 6}} {
		paths, err := WriteSplit(filepath.Join(dir, "m"), nil, tensors, c.max)
		if err != nil || len(paths) != c.parts {
			t.Errorf("%d bytes: %v, %v", c.max, paths, err)
		}
		for _, p := range paths {
			if st := must(os.Stat(p)); st.Size() > c.max {
				t.Errorf("%s has %d bytes, more than %d", p, st.Size(), c.max)
			}
		}
	}
}

func TestWriteSplitLeavesNothingBehindWhenItFails(t *testing.T) {
	good := plain(t, "good", tensor.FromF32([]float32{1}, 1))
	cause := errors.New("cause")
	bad := TensorInfo{"bad", ggml.F32, tensor.Shape{1}, func(io.Writer) error { return cause }}
	many := make([]TensorInfo, maxParts+1)
	for i := range many {
		many[i] = plain(t, fmt.Sprint("w", i), tensor.FromF32([]float32{1}, 1))
	}
	for name, c := range map[string]struct {
		tensors  []TensorInfo
		maxBytes int64
		want     error
	}{
		"second part fails": {[]TensorInfo{good, bad}, 1, cause},
		"no bytes":          {[]TensorInfo{good}, 0, ErrFormat},
		"name twice":        {[]TensorInfo{good, good}, 1, ErrFormat},
		"too many parts":    {many, 1, ErrFormat},
	} {
		dir := t.TempDir()
		paths, err := WriteSplit(filepath.Join(dir, "m.gguf"), nil, c.tensors, c.maxBytes)
		if !errors.Is(err, c.want) || len(paths) != 0 {
			t.Errorf("%s: %v, %v", name, paths, err)
		}
		if left := must(os.ReadDir(dir)); len(left) != 0 {
			t.Errorf("%s: %v is left", name, left)
		}
	}
}

func FuzzOpenSplit(f *testing.F) {
	parts := [2][]byte{must(os.ReadFile(splitFile)), must(os.ReadFile("testdata/split-00002-of-00003.gguf"))}
	parts[0][bytes.Index(parts[0], []byte("split.count"))+15] = 2
	parts[1][bytes.Index(parts[1], []byte("split.count"))+15] = 2
	f.Add(parts[0], parts[1])
	parts[0][bytes.Index(parts[0], []byte("split.tensors.count"))+23] = 4 // sound
	f.Add(parts[0], parts[1])
	f.Fuzz(func(t *testing.T, first, second []byte) {
		dir := t.TempDir()
		for i, data := range [][]byte{first, second} {
			if err := os.WriteFile(filepath.Join(dir, PartPath("m", i, 2)), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		x, err := Open(filepath.Join(dir, PartPath("m", 0, 2)))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		defer x.Close()
		again := read(t, rewrite(t, x))
		if d, err := Diff(x, again); err != nil || !d.Equal() {
			t.Fatalf("%+v, %v", d, err)
		}
	})
}
