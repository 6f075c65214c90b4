package checkpoint

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/framework/tensor"
)

// snapshot returns the state of step.
func snapshot(step int) Snapshot {
	w := tensor.New(tensor.T(tensor.F32, 16, 9))
	for i := range w.F32() {
		w.F32()[i] = float32(step*1000 + i)
	}
	return Snapshot{
		Step: step, Cursor: 1<<63 + uint64(step), Seed: 1<<64 - 1, CreatedBy: "tern test",
		Config: json.RawMessage(`{"dim":768,"note":"a<b & ü"}`),
		Extra:  map[string]json.RawMessage{"schedule": json.RawMessage(`[1,2.5,null]`), "best": json.RawMessage(`1.25`)},
		Tensors: map[string]*tensor.Tensor{
			"w": w, "m.w": w.Clone(), "ids": tensor.FromI32([]int32{1, -2}, 2),
			"codes": {Type: tensor.T(tensor.U2, 1, 8), Data: []byte{0x12, 0x34}},
		},
	}
}

func save(t testing.TB, root string, s Snapshot) string {
	t.Helper()
	dir, err := Save(root, s)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// same compares snapshots, tensors by type and bytes.
func same(t testing.TB, got *Snapshot, want Snapshot) {
	t.Helper()
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("the snapshot differs: %s", diff)
	}
}

func names(t testing.TB, root string) string {
	t.Helper()
	es, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestLoadReturnsWhatWasSaved(t *testing.T) {
	root := filepath.Join(t.TempDir(), "runs", "a")
	for _, s := range []Snapshot{snapshot(1200), {Step: 0, Config: json.RawMessage("null")}} {
		dir := save(t, root, s)
		if want := filepath.Join(root, Name(s.Step)); dir != want {
			t.Errorf("saved in %s, not %s", dir, want)
		}
		got, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if s.Tensors == nil {
			s.Tensors = map[string]*tensor.Tensor{}
		}
		same(t, got, s)
		if err := Verify(dir); err != nil {
			t.Error(err)
		}
	}
	if got := names(t, root); got != "step-00000000 step-00001200" {
		t.Errorf("the run holds %s", got)
	}
}

func TestEqualSnapshotsAreEqualBytes(t *testing.T) {
	a, b := save(t, t.TempDir(), snapshot(7)), save(t, t.TempDir(), snapshot(7))
	for _, name := range []string{tensorsFile, manifestFile} {
		x, errX := os.ReadFile(filepath.Join(a, name))
		y, errY := os.ReadFile(filepath.Join(b, name))
		if errX != nil || errY != nil || !bytes.Equal(x, y) {
			t.Errorf("%s differs (%v, %v)", name, errX, errY)
		}
	}
	if got := names(t, a); got != "manifest.json tensors.safetensors" {
		t.Errorf("the checkpoint holds %s", got)
	}
}

func TestSaveReplacesTheSameStep(t *testing.T) {
	root := t.TempDir()
	save(t, root, snapshot(5))
	s := snapshot(5)
	s.Cursor = 9
	got, err := Load(save(t, root, s))
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, s)
	if got := names(t, root); got != "step-00000005" {
		t.Errorf("the run holds %s", got)
	}
}

// TestEveryFlippedBitIsNoticed flips bits all over both files: header and data
// of the tensors, keys, values and checksum of the manifest.
func TestEveryFlippedBitIsNoticed(t *testing.T) {
	dir := save(t, t.TempDir(), snapshot(3))
	for name, stride := range map[string]int{tensorsFile: 3, manifestFile: 1} {
		path := filepath.Join(dir, name)
		sound, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(sound); i += stride {
			bad := bytes.Clone(sound)
			bad[i] ^= 1 << (i % 8)
			if err := os.WriteFile(path, bad, 0o666); err != nil {
				t.Fatal(err)
			}
			if s, err := Load(dir); s != nil || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMismatch) {
				t.Fatalf("%s: bit %d of byte %d flipped: %v", name, i%8, i, err)
			}
		}
		for _, bad := range [][]byte{nil, append(bytes.Clone(sound), 0), append(bytes.Clone(sound), '\n')} {
			if err := os.WriteFile(path, bad, 0o666); err != nil {
				t.Fatal(err)
			}
			if err := Verify(dir); !errors.Is(err, ErrCorrupt) || len(errors.GetAllHints(err)) == 0 {
				t.Fatalf("%s of %d bytes: %v", name, len(bad), err)
			}
		}
		for n := 0; n < len(sound); n += 13 {
			if err := os.WriteFile(path, sound[:n], 0o666); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(dir); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s cut to %d bytes: %v", name, n, err)
			}
		}
		if err := os.WriteFile(path, sound, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := Verify(dir); err != nil {
		t.Fatalf("whole again: %v", err)
	}
}

// forge writes a manifest with a sound checksum that the package would not
// write.
func forge(t *testing.T, dir string, change func(*Manifest)) {
	t.Helper()
	m, err := ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	change(m)
	data, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestLoadRefusesForgedManifests(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Manifest)
		want   error
	}{
		"later format":     {func(m *Manifest) { m.Format = 2 }, ErrMismatch},
		"step negative":    {func(m *Manifest) { m.Step = -1 }, ErrCorrupt},
		"no files":         {func(m *Manifest) { m.Files = nil }, ErrCorrupt},
		"path in a name":   {func(m *Manifest) { m.Files["../x"] = FileInfo{} }, ErrCorrupt},
		"size negative":    {func(m *Manifest) { m.Files[tensorsFile] = FileInfo{-1, ""} }, ErrCorrupt},
		"size huge":        {func(m *Manifest) { m.Files[tensorsFile] = FileInfo{1 << 62, ""} }, ErrCorrupt},
		"another checksum": {func(m *Manifest) { m.Files[tensorsFile] = FileInfo{m.Files[tensorsFile].Size, noSum} }, ErrCorrupt},
	} {
		dir := save(t, t.TempDir(), snapshot(3))
		forge(t, dir, c.change)
		if _, err := Load(dir); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := save(t, t.TempDir(), snapshot(3))
	path := filepath.Join(dir, tensorsFile)
	if err := os.WriteFile(path, []byte("no tensors"), 0o666); err != nil {
		t.Fatal(err)
	}
	forge(t, dir, func(m *Manifest) { m.Files[tensorsFile] = FileInfo{10, hexSum([]byte("no tensors"))} })
	if _, err := Load(dir); !errors.Is(err, ErrCorrupt) {
		t.Errorf("no safetensors: %v", err)
	}
	if err := errors.CombineErrors(os.Remove(path), os.Mkdir(path, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a directory in a file's place: %v", err)
	}
}

func TestLoadNamesWhatIsNoCheckpoint(t *testing.T) {
	root := t.TempDir()
	if _, err := Load(filepath.Join(root, "none")); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Load(root); !errors.Is(err, ErrCorrupt) {
		t.Errorf("empty directory: %v", err)
	}
}

func TestLatestSkipsBrokenOnes(t *testing.T) {
	root := t.TempDir()
	if _, _, err := Latest(root); !errors.Is(err, ErrNotFound) {
		t.Fatalf("empty: %v", err)
	}
	if _, _, err := Latest(filepath.Join(root, "none")); !errors.Is(err, ErrNotFound) {
		t.Fatalf("missing: %v", err)
	}
	for _, step := range []int{10, 9, 100000000, 200, 300} { // names are no order beyond 8 digits
		save(t, root, snapshot(step))
	}
	for _, other := range []string{"step-1", "step-00000400x", "step--0000001", "notes"} { // no checkpoints' names
		if err := os.Mkdir(filepath.Join(root, other), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	steps := func() (out []int) {
		es, err := List(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			out = append(out, e.Step)
		}
		return out
	}
	if got := steps(); !slices.Equal(got, []int{100000000, 300, 200, 10, 9}) {
		t.Fatalf("steps %v", got)
	}
	spoil(t, filepath.Join(root, Name(100000000), tensorsFile))
	if err := os.Remove(filepath.Join(root, Name(300), manifestFile)); err != nil {
		t.Fatal(err)
	}
	dir, broken, err := Latest(root)
	if err != nil || dir != filepath.Join(root, Name(200)) {
		t.Fatalf("latest is %s, %v", dir, err)
	}
	f, err := LoadLatest(root)
	if err != nil || f.Dir != dir || f.Snapshot.Step != 200 {
		t.Fatalf("loaded %+v, %v", f, err)
	}
	for _, b := range [][]Broken{broken, f.Broken} {
		if len(b) != 2 || b[0].Dir != filepath.Join(root, Name(100000000)) || !errors.Is(b[0].Err, ErrCorrupt) ||
			b[1].Dir != filepath.Join(root, Name(300)) || !strings.Contains(b[1].Err.Error(), "manifest.json is missing") {
			t.Errorf("broken: %v", b)
		}
	}
	for _, step := range []int{200, 10, 9} {
		spoil(t, filepath.Join(root, Name(step), tensorsFile))
	}
	if _, broken, err := Latest(root); !errors.Is(err, ErrNotFound) || len(broken) != 5 {
		t.Errorf("all broken: %v, %d", err, len(broken))
	}
}

// spoil flips the last bit of a file.
func spoil(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestPruneKeepsTheNewestSoundOnes(t *testing.T) {
	root := t.TempDir()
	if removed, err := Prune(root, 2); err != nil || removed != nil {
		t.Fatalf("empty: %v, %v", removed, err)
	}
	for step := range 6 {
		save(t, root, snapshot(step))
	}
	if err := os.Truncate(filepath.Join(root, Name(4), tensorsFile), 3); err != nil {
		t.Fatal(err)
	}
	removed, err := Prune(root, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(root, Name(2)), filepath.Join(root, Name(1)), filepath.Join(root, Name(0))}
	if !slices.Equal(removed, want) || names(t, root) != "step-00000003 step-00000004 step-00000005" {
		t.Errorf("removed %v, left %s", removed, names(t, root))
	}
	if removed, err := Prune(root, 3); err != nil || removed != nil {
		t.Errorf("nothing to remove: %v, %v", removed, err)
	}
	if _, err := Prune(root, 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("keep 0: %v", err)
	}
}

func TestSaveRefusesWhatCannotBeStored(t *testing.T) {
	for name, spoil := range map[string]func(*Snapshot){
		"step":       func(s *Snapshot) { s.Step = -1 },
		"config":     func(s *Snapshot) { s.Config = json.RawMessage("{") },
		"extra":      func(s *Snapshot) { s.Extra["x"] = json.RawMessage("nonsense") },
		"nil":        func(s *Snapshot) { s.Tensors["x"] = nil },
		"no dtype":   func(s *Snapshot) { s.Tensors["x"] = &tensor.Tensor{} },
		"empty name": func(s *Snapshot) { s.Tensors[""] = s.Tensors["w"] },
		"short data": func(s *Snapshot) { s.Tensors["w"] = &tensor.Tensor{Type: s.Tensors["w"].Type, Data: []byte{1}} },
	} {
		root := t.TempDir()
		save(t, root, snapshot(1))
		s := snapshot(2)
		spoil(&s)
		if _, err := Save(root, s); !errors.Is(err, ErrInvalid) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
		if got := names(t, root); got != "step-00000001" {
			t.Errorf("%s: the run holds %s", name, got)
		}
	}
}

func TestCheckTensorsNamesTheDifference(t *testing.T) {
	s := snapshot(1)
	want := map[string]tensor.Type{}
	for name, x := range s.Tensors {
		want[name] = x.Type
	}
	if err := s.CheckTensors(want); err != nil {
		t.Fatal(err)
	}
	delete(want, "ids")
	want["w"] = tensor.T(tensor.F32, 9, 16)
	want["v"] = tensor.T(tensor.F32, 2)
	err := s.CheckTensors(want)
	if !errors.Is(err, ErrMismatch) || len(errors.GetAllHints(err)) == 0 {
		t.Fatal(err)
	}
	for _, part := range []string{"ids i32[2] is not of this model", "v f32[2] is missing", "w is f32[16,9], not f32[9,16]"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
	if err := (&Snapshot{}).CheckTensors(map[string]tensor.Type{"a": {}, "b": {}, "c": {}, "d": {}, "e": {}, "f": {}}); !strings.Contains(err.Error(), "and 1 more") {
		t.Error(err)
	}
}

// full is a file on a disk with room for n bytes more.
type full struct {
	w io.Writer
	n *int
}

func (f full) Write(p []byte) (int, error) {
	if len(p) <= *f.n {
		*f.n -= len(p)
		return f.w.Write(p)
	}
	n, err := f.w.Write(p[:*f.n])
	*f.n = 0
	if err == nil {
		err = &os.PathError{Op: "write", Path: "tensors.safetensors", Err: syscall.ENOSPC}
	}
	return n, err
}

func TestFullDiskLosesNothing(t *testing.T) {
	for _, replace := range []bool{false, true} {
		for room := 0; ; room += 97 {
			root := t.TempDir()
			save(t, root, snapshot(1))
			s := snapshot(2)
			if replace {
				s = snapshot(1)
			}
			left := room
			v := saver{wrap: func(w io.Writer) io.Writer { return full{w, &left} }}
			_, err := v.save(root, s)
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(errors.FlattenHints(err), "free some space") {
				t.Fatalf("room for %d bytes: %v", room, err)
			}
			if got := names(t, root); got != "step-00000001" {
				t.Fatalf("room for %d bytes: the run holds %s", room, got)
			}
			got, err := Load(filepath.Join(root, Name(1)))
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, snapshot(1))
		}
	}
}

func FuzzManifest(f *testing.F) {
	dir := save(f, f.TempDir(), snapshot(3))
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"manifest_sha256":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeManifest(data)
		if err == nil && m.Sum != hexSum(bytes.Replace(data, []byte(m.Sum), []byte(noSum), 1)) {
			t.Fatal("accepted with a wrong checksum")
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMismatch) {
			t.Fatal(err)
		}
	})
}

func TestTensorsAreReadWhenSaveComesToThem(t *testing.T) {
	root, want := t.TempDir(), snapshot(3)
	lazy := want
	lazy.Tensors = map[string]*tensor.Tensor{}
	for name, v := range want.Tensors {
		lazy.Tensors[name] = &tensor.Tensor{Type: v.Type}
	}
	var read []string
	lazy.Read = func(name string, dst *tensor.Tensor) error {
		read = append(read, name)
		copy(dst.Data, want.Tensors[name].Data)
		return nil
	}
	got, err := Load(save(t, root, lazy))
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want)
	slices.Sort(read)
	if strings.Join(read, " ") != "codes ids m.w w" {
		t.Errorf("read %q", read)
	}
}

func TestAFailedReadLeavesNoCheckpoint(t *testing.T) {
	root, s, lost := t.TempDir(), snapshot(3), errors.New("the device is gone")
	s.Read = func(string, *tensor.Tensor) error { return lost }
	if _, err := Save(root, s); !errors.Is(err, lost) {
		t.Fatalf("error %v", err)
	}
	if left := names(t, root); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
