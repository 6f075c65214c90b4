package safetensors

import (
	"bytes"
	"encoding/binary"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/framework/tensor"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// hfFile was written by Hugging Face's library; testdata/hf.py is the program.
const hfFile = "testdata/hf.safetensors"

func bits(d tensor.DType, data []byte, dims ...int) *tensor.Tensor {
	return &tensor.Tensor{Type: tensor.T(d, dims...), Data: data}
}

// sample holds a tensor of every dtype.
func sample() map[string]*tensor.Tensor {
	return map[string]*tensor.Tensor{
		"w.f32":    tensor.FromF32([]float32{1, -2, 3, 4.5, 0, 6}, 2, 3),
		"w.f64":    tensor.FromF64([]float64{math.Pi}, 1),
		"w.f16":    bits(tensor.F16, []byte{0, 0x3c, 0, 0xc0, 1, 0}, 3),
		"w.bf16":   bits(tensor.BF16, []byte{0x80, 0x3f}, 1, 1),
		"w.i8":     bits(tensor.I8, []byte{255, 1, 2}, 3),
		"w.i32":    tensor.FromI32([]int32{-1, 1 << 30}, 2),
		"w.bool":   bits(tensor.Bool, []byte{1, 0, 1}, 3),
		"w.u1":     bits(tensor.U1, []byte{0xff, 0x01, 0xee, 0x00}, 2, 9),
		"w.u2":     bits(tensor.U2, []byte{1, 2, 3, 4}, 2, 8),
		"w.u4":     bits(tensor.U4, []byte{1, 2}, 1, 3),
		"w.scalar": tensor.FromF32([]float32{42}),
	}
}

func entries(m map[string]*tensor.Tensor) []Entry {
	var es []Entry
	for name, t := range m { // in any order
		es = append(es, Of(name, t))
	}
	return es
}

func write(t testing.TB, meta map[string]string, es []Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, meta, es); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(t testing.TB, data []byte) *File {
	t.Helper()
	f, err := Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWriteMatchesGoldenFile(t *testing.T) {
	const path = "testdata/tern.safetensors"
	meta := map[string]string{"b": "two", "a": "três <✓>"}
	got := write(t, meta, entries(sample()))
	if *update {
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%d bytes differ from the golden file's %d", len(got), len(want))
	}
	if n := binary.LittleEndian.Uint64(want); n%8 != 0 {
		t.Errorf("the header has %d bytes, no multiple of 8", n)
	}
	f := read(t, got)
	if diff := cmp.Diff(meta, f.Metadata); diff != "" {
		t.Error(diff)
	}
	for name, w := range sample() {
		x, err := f.ReadTensor(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !x.Type.Equal(w.Type) || !bytes.Equal(x.Data, w.Data) {
			t.Errorf("%s: %v % x, want %v % x", name, x.Type, x.Data, w.Type, w.Data)
		}
	}
	for _, x := range f.Tensors {
		if size := int64(dtypes[x.DType].bits / 8); x.Offset%size != 0 {
			t.Errorf("%s: at %d, not aligned for %s", x.Name, x.Offset, x.DType)
		}
	}
}

// TestWriteMatchesBytesByHand spells a whole file out, after the format's
// description.
func TestWriteMatchesBytesByHand(t *testing.T) {
	got := write(t, nil, []Entry{Of("b", bits(tensor.U2, []byte{7, 8}, 2, 3)), Of("a", tensor.FromF32([]float32{1}, 1))})
	const json = `{"__metadata__":{"tern.type.b":"u2[2,3]"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2,1],"data_offsets":[4,6]}}`
	head := json + strings.Repeat(" ", (8-len(json)%8)%8)
	want := append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...)
	want = append(want, 0, 0, 0x80, 0x3f, 7, 8)
	if !bytes.Equal(got, want) {
		t.Fatalf("%q\nwant\n%q", got, want)
	}
}

func TestReadsWhatHuggingFaceWrites(t *testing.T) {
	f, err := Open(hfFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if diff := cmp.Diff(map[string]string{"format": "np", "note": "três ✓"}, f.Metadata); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string][]float64{
		"a.f64": {math.Pi}, "b.f32": {0, 0.25, 0.5, 0.75, 1, 1.25}, "c.f16": {0.5, -2}, "scalar": {42},
	} {
		x, err := f.ReadTensor(name)
		if err != nil || !slices.Equal(x.Floats(), want) {
			t.Errorf("%s: %v, %v", name, x, err)
		}
	}
	x, err := f.ReadTensor("i32")
	if err != nil || x.String() != "i32[1,2]" || !slices.Equal(x.I32(), []int32{1 << 30, -7}) {
		t.Errorf("i32: %v, %v", x, err)
	}
	if x, err = f.ReadTensor("bool"); err != nil || !bytes.Equal(x.Data, []byte{1, 0, 1}) {
		t.Errorf("bool: %v, %v", x, err)
	}
	for name, want := range map[string][]byte{"u8": {0, 1, 2, 3, 4}, "i64": {0, 0, 0, 0, 0, 1, 0, 0}} {
		if _, err := f.ReadTensor(name); !errors.Is(err, ErrType) {
			t.Errorf("%s: %v", name, err)
		}
		if raw, err := f.ReadRaw(name); err != nil || !bytes.Equal(raw, want) {
			t.Errorf("%s: % x, %v", name, raw, err)
		}
		into := make([]byte, len(want))
		if err := f.ReadInto(name, into); err != nil || !bytes.Equal(into, want) {
			t.Errorf("%s: % x, %v", name, into, err)
		}
		if err := f.ReadInto(name, into[1:]); !errors.Is(err, ErrType) {
			t.Errorf("%s into a byte less: %v", name, err)
		}
	}
	if err := f.ReadInto("none", nil); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := f.ReadTensor("none"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestWriteRefusesWhatNoReaderTakes(t *testing.T) {
	one := tensor.FromF32([]float32{1}, 1)
	for name, c := range map[string]struct {
		meta map[string]string
		es   []Entry
	}{
		"no name":       {nil, []Entry{Of("", one)}},
		"metadata name": {nil, []Entry{Of(metaKey, one)}},
		"not UTF-8":     {nil, []Entry{Of("\xff", one)}},
		"twice":         {nil, []Entry{Of("a", one), Of("b", one), Of("a", one)}},
		"zero":          {nil, []Entry{Of("a", bits(tensor.F32, nil, 0))}},
		"no dtype":      {nil, []Entry{Of("a", &tensor.Tensor{})}},
		"reserved key":  {map[string]string{"tern.type.x": "u2[1]"}, nil},
		"key not UTF-8": {map[string]string{"x": "\xff"}, nil},
	} {
		var b bytes.Buffer
		if err := Write(&b, c.meta, c.es); !errors.Is(err, ErrFormat) || b.Len() != 0 {
			t.Errorf("%s: %v after %d bytes", name, err, b.Len())
		}
	}
	for _, n := range []int{3, 5} {
		if err := Write(io.Discard, nil, []Entry{Of("a", bits(tensor.F32, make([]byte, n), 1))}); !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes of data: %v", n, err)
		}
	}
}

func TestBytesAreWrittenAsAnotherTypeOfTheirSize(t *testing.T) {
	e := Of("a", bits(tensor.I8, []byte{0xff, 1}, 2))
	e.As = u8
	f := read(t, write(t, nil, []Entry{e}))
	if x, err := f.Tensor("a"); err != nil || x.DType != u8 || x.Type.DType != tensor.Invalid {
		t.Errorf("%+v, %v", x, err)
	}
	if b, err := f.ReadRaw("a"); err != nil || !bytes.Equal(b, []byte{0xff, 1}) {
		t.Errorf("% x, %v", b, err)
	}
	for _, as := range []string{"F16", "U9"} {
		e.As = as
		if err := Write(io.Discard, nil, []Entry{e}); !errors.Is(err, ErrFormat) {
			t.Errorf("as %s: %v", as, err)
		}
	}
}

// file puts a header before some data.
func file(json string, data int) []byte {
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(json))), json...)
	return append(b, make([]byte, data)...)
}

func TestReadRefusesHostileFiles(t *testing.T) {
	a := func(dtype, shape, offsets string) string {
		return `{"a":{"dtype":"` + dtype + `","shape":` + shape + `,"data_offsets":` + offsets + `}}`
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"empty":               {nil, "too few"},
		"7 bytes":             {make([]byte, 7), "too few"},
		"no header":           {make([]byte, 8), "begin with"},
		"header too long":     {append(binary.LittleEndian.AppendUint64(nil, 1<<40), '{', '}'), "header of"},
		"header wraps":        {append(binary.LittleEndian.AppendUint64(nil, math.MaxUint64), '{', '}'), "header of"},
		"not JSON":            {file(`{"a":`, 0), "not JSON"},
		"an array":            {file(`[]`, 0), "begin with"},
		"two values":          {file(`{}{}`, 0), "not JSON"},
		"nested":              {file(`{"a":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+`}`, 0), "not JSON"},
		"metadata":            {file(`{"__metadata__":{"a":1}}`, 0), metaKey},
		"metadata null":       {file(`{"__metadata__":null}`, 0), metaKey},
		"metadata twice":      {file(`{"__metadata__":{},"__metadata__":{}}`, 0), "twice"},
		"no dtype":            {file(`{"a":{"shape":[1],"data_offsets":[0,4]}}`, 4), "missing"},
		"no shape":            {file(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4), "missing"},
		"no offsets":          {file(`{"a":{"dtype":"F32","shape":[1]}}`, 4), "missing"},
		"three offsets":       {file(a("F32", "[1]", "[0,4,8]"), 4), "missing"},
		"dtype":               {file(a("F33", "[1]", "[0,4]"), 4), "F33"},
		"dtype null":          {file(`{"a":{"dtype":null,"shape":[1],"data_offsets":[0,4]}}`, 4), "missing"},
		"tensor null":         {file(`{"a":null}`, 0), "missing"},
		"name empty":          {file(`{"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), "empty"},
		"name twice":          {file(`{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}}`, 2), "twice"},
		"offset negative":     {file(a("F32", "[1]", "[-4,0]"), 4), "data_offsets"},
		"offsets swapped":     {file(a("F32", "[1]", "[4,0]"), 4), "data_offsets"},
		"offset a float":      {file(a("F32", "[1]", "[0,4.5]"), 4), "tensor"},
		"offset huge":         {file(a("F32", "[1]", "[0,99999999999999999999]"), 4), "tensor"},
		"dimension 0":         {file(a("F32", "[0]", "[0,0]"), 0), "dimension 0"},
		"dimension negative":  {file(a("F32", "[-1,-1]", "[0,4]"), 4), "dimension -1"},
		"elements overflow":   {file(a("F32", "[1099511627776,1099511627776]", "[0,4]"), 4), "elements"},
		"elements wrap":       {file(a("I8", "[4294967296,4294967296]", "[0,0]"), 0), "elements"},
		"nine dimensions":     {file(a("I8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1), "dimensions"},
		"size":                {file(a("F32", "[2]", "[0,4]"), 4), "takes 8 bytes"},
		"beyond the end":      {file(a("F32", "[1]", "[0,4]"), 3), "beyond the end"},
		"hole at the start":   {file(a("F32", "[1]", "[4,8]"), 8), "begins at 4"},
		"bytes after the end": {file(a("F32", "[1]", "[0,4]"), 5), "after the last"},
		"overlap":             {file(`{"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"I8","shape":[2],"data_offsets":[1,3]}}`, 3), "begins at 1"},
		"type of nothing":     {file(`{"__metadata__":{"tern.type.b":"u2[4]"}}`, 0), "no tensor"},
		"type no type":        {file(`{"__metadata__":{"tern.type.a":"u2[4"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "metadata says"},
		"type no code":        {file(`{"__metadata__":{"tern.type.a":"i8[1]"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "metadata says"},
		"type of other size":  {file(`{"__metadata__":{"tern.type.a":"u2[5]"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "metadata says"},
		"type of other dtype": {file(`{"__metadata__":{"tern.type.a":"u2[4]"},"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}`, 1), "metadata says"},
	} {
		_, err := Read(bytes.NewReader(c.data), int64(len(c.data)))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v, want something with %q and a hint", name, err, c.says)
		}
	}
	read(t, file(a("F32", "[1]", "[0,4]"), 4)) // the same, sound
	bad := read(t, file(a("BOOL", "[2]", "[0,2]"), 2))
	bad.r = bytes.NewReader(append(file(a("BOOL", "[2]", "[0,2]"), 1), 2))
	if _, err := bad.ReadTensor("a"); !errors.Is(err, ErrFormat) {
		t.Errorf("bool 2: %v", err)
	}
}

func TestEveryTruncationIsNoticed(t *testing.T) {
	data := write(t, nil, entries(sample()))
	for n := range data {
		if _, err := Read(bytes.NewReader(data[:n]), int64(n)); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(data), err)
		}
	}
	f, err := Read(bytes.NewReader(data[:len(data)-1]), int64(len(data))) // it shrinks later
	if err != nil {
		t.Fatal(err)
	}
	last := f.Tensors[len(f.Tensors)-1]
	if _, err := f.ReadRaw(last.Name); !errors.Is(err, ErrFormat) {
		t.Fatal(err)
	}
}

func TestFilesOnDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w.safetensors")
	if err := WriteFile(path, nil, entries(sample())); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil || len(f.Tensors) != len(sample()) {
		t.Fatal(err)
	}
	sec, err := f.Section("w.i8")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(sec); err != nil || !bytes.Equal(b, []byte{255, 1, 2}) {
		t.Fatalf("% x, %v", b, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrFormat) {
		t.Errorf("directory: %v", err)
	}
	if _, err := Open(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(write(f, map[string]string{"k": "v"}, entries(sample())))
	if data, err := os.ReadFile(hfFile); err == nil {
		f.Add(data)
	}
	f.Add(file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		// What can be read as tensors can be written, and reads as the same.
		want := map[string]*tensor.Tensor{}
		for _, ti := range x.Tensors {
			if v, err := x.ReadTensor(ti.Name); err == nil {
				want[ti.Name] = v
			}
		}
		again := read(t, write(t, x.Metadata, entries(want)))
		for name, w := range want {
			v, err := again.ReadTensor(name)
			if err != nil || !v.Type.Equal(w.Type) || !bytes.Equal(v.Data, w.Data) {
				t.Fatalf("%q: %v, %v; want %v", name, v, err, w)
			}
		}
	})
}
