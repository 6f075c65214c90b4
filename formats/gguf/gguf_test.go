package gguf

import (
	"bytes"
	"encoding/binary"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/tensor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// ggmlFile was written by gguf-py, with Q2_0 blocks by ggml; testdata/ggml.py
// is the program.
const ggmlFile = "testdata/ggml.gguf"

// nested is legal, but ggml's own reader refuses arrays of arrays.
var nested = KV{"a.nested", []any{[]int32{1, 2}, []string{"x"}, []any{[]bool{true}}}}

// sample returns metadata of every type that ggml reads and tensors of several.
func sample(t testing.TB) ([]KV, []TensorInfo) {
	t.Helper()
	meta := []KV{
		{"general.architecture", "tern-test"},
		{"a.u8", uint8(250)},
		{"a.i8", int8(-5)},
		{"a.u16", uint16(65000)},
		{"a.i16", int16(-30000)},
		{"a.u32", uint32(4e9)},
		{"a.i32", int32(-2e9)},
		{"a.u64", uint64(1 << 63)},
		{"a.i64", int64(-1 << 62)},
		{"a.f32", float32(0.5)},
		{"a.f64", 0.1},
		{"a.true", true},
		{"a.false", false},
		{"a.u8s", []uint8{1, 2, 3}},
		{"a.i8s", []int8{-1, 2}},
		{"a.u16s", []uint16{1, 65535}},
		{"a.i16s", []int16{-1}},
		{"a.u32s", []uint32{7, 8}},
		{"a.i32s", []int32{-7, 8}},
		{"a.u64s", []uint64{math.MaxUint64}},
		{"a.i64s", []int64{math.MinInt64}},
		{"a.f32s", []float32{1, -2.5}},
		{"a.f64s", []float64{math.Pi}},
		{"a.bools", []bool{true, false, true}},
		{"a.strings", []string{"Ġthe", "", "\xff not utf-8"}},
		{"a.none", []int32{}},
	}
	codes := tensor.New(tensor.T(tensor.U2, 2, 128))
	for i := range codes.Data {
		codes.Data[i] = byte(i*37) & 0x55
	}
	q, err := FromCodes("blk.0.attn_q.weight", ggml.Q2_0, codes, tensor.FromF32([]float32{0.5, 0.25}, 2, 1))
	if err != nil {
		t.Fatal(err)
	}
	tensors := []TensorInfo{q}
	for name, x := range map[string]*tensor.Tensor{"norm": tensor.FromF32([]float32{1, 2, 3}, 3)} {
		tensors = append(tensors, plain(t, name, x))
	}
	return meta, append(tensors,
		plain(t, "ids", tensor.FromI32([]int32{1, 2, 3, 4, 5, 6}, 3, 2)),
		plain(t, "wide", tensor.FromF64([]float64{math.Pi}, 1, 1, 1)),
		plain(t, "scalar", tensor.FromF32([]float32{42})),
		FromBytes("i16", ggml.I16, tensor.Shape{3}, []byte{1, 0, 2, 0, 3, 0}))
}

func plain(t testing.TB, name string, x *tensor.Tensor) TensorInfo {
	t.Helper()
	info, err := FromTensor(name, x)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func write(t testing.TB, meta []KV, tensors []TensorInfo) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, meta, tensors); err != nil {
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

// rewrite writes what f holds.
func rewrite(t testing.TB, f *File) []byte {
	t.Helper()
	var tensors []TensorInfo
	for _, x := range f.Tensors {
		data, err := f.ReadRaw(x.Name)
		if err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, FromBytes(x.Name, x.Type, x.Shape, data))
	}
	return write(t, f.Metadata, tensors)
}

func TestWriteMatchesGoldenFile(t *testing.T) {
	const path = "testdata/tern.gguf"
	meta, tensors := sample(t)
	got := write(t, meta, tensors)
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
}

// TestWriteMatchesBytesByHand spells a whole file out, after ggml's gguf.md.
func TestWriteMatchesBytesByHand(t *testing.T) {
	got := write(t, []KV{{"k", uint32(7)}, {KeyAlignment, uint32(16)}, {"s", []string{"ab"}}},
		[]TensorInfo{plain(t, "w", tensor.FromF32([]float32{1, 2, 3, 4, 5, 6}, 2, 3)), plain(t, "b", &tensor.Tensor{Type: tensor.T(tensor.I8, 1), Data: []byte{9}})})
	const want = "GGUF\x03\x00\x00\x00" + "\x02\x00\x00\x00\x00\x00\x00\x00" + "\x03\x00\x00\x00\x00\x00\x00\x00" +
		"\x01\x00\x00\x00\x00\x00\x00\x00k" + "\x04\x00\x00\x00" + "\x07\x00\x00\x00" +
		"\x11\x00\x00\x00\x00\x00\x00\x00general.alignment" + "\x04\x00\x00\x00" + "\x10\x00\x00\x00" +
		"\x01\x00\x00\x00\x00\x00\x00\x00s" + "\x09\x00\x00\x00" + "\x08\x00\x00\x00" + "\x01\x00\x00\x00\x00\x00\x00\x00" + "\x02\x00\x00\x00\x00\x00\x00\x00ab" +
		"\x01\x00\x00\x00\x00\x00\x00\x00w" + "\x02\x00\x00\x00" + "\x03\x00\x00\x00\x00\x00\x00\x00" + "\x02\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x01\x00\x00\x00\x00\x00\x00\x00b" + "\x01\x00\x00\x00" + "\x01\x00\x00\x00\x00\x00\x00\x00" + "\x18\x00\x00\x00" + "\x20\x00\x00\x00\x00\x00\x00\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00" + // 24+17+33+35+41+33 = 183 bytes so far, to 192
		"\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x40\x40\x00\x00\x80\x40\x00\x00\xa0\x40\x00\x00\xc0\x40" + "\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x09" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	if diff := cmp.Diff([]byte(want), got); diff != "" {
		t.Fatal(diff)
	}
}

func TestWriteReadWriteIsIdentical(t *testing.T) {
	meta, tensors := sample(t)
	meta = append(meta, nested)
	first := write(t, meta, tensors)
	f := read(t, first)
	if diff := cmp.Diff(Metadata(meta), f.Metadata); diff != "" {
		t.Fatalf("metadata: %s", diff)
	}
	if !bytes.Equal(first, rewrite(t, f)) {
		t.Fatal("written again, the bytes differ")
	}
	if n, err := Size(meta, tensors); err != nil || n != int64(len(first)) {
		t.Fatalf("Size is %d, %v; %d bytes were written", n, err, len(first))
	}
	x, err := f.ReadTensor("ids")
	if err != nil || x.String() != "i32[3,2]" || x.I32()[5] != 6 {
		t.Fatalf("ids: %v, %v", x, err)
	}
	if x, err = f.ReadTensor("scalar"); err != nil || !x.Shape.Equal(tensor.Shape{1}) || x.F32()[0] != 42 {
		t.Fatalf("scalar: %v, %v", x, err)
	}
}

func TestReadsWhatGgmlWrites(t *testing.T) {
	f, err := Open(ggmlFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := Metadata{
		{"general.architecture", "tern-test"},
		{"t.u8", uint8(250)},
		{"t.i8", int8(-5)},
		{"t.u16", uint16(65000)},
		{"t.i16", int16(-30000)},
		{"t.u32", uint32(4e9)},
		{"t.i32", int32(-2e9)},
		{"t.u64", uint64(1 << 63)},
		{"t.i64", int64(-1 << 62)},
		{"t.f32", float32(0.5)},
		{"t.f64", 0.1},
		{"t.bool", true},
		{"t.string", "três ✓"},
		{"t.strings", []string{"a", "", "Ġthe"}},
		{"t.i32s", []int32{1, -2, 3}},
		{"t.f32s", []float32{0.25, -0.5}},
	}
	if diff := cmp.Diff(want, f.Metadata); diff != "" {
		t.Error(diff)
	}
	x, err := f.ReadTensor("i32")
	if err != nil || x.String() != "i32[2,3,4]" {
		t.Fatalf("%v, %v", x, err)
	}
	for i, v := range x.I32() {
		if v != int32(i) {
			t.Fatalf("i32: %v", x.I32())
		}
	}
	wide, err := f.ReadTensor("f32")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		eps  float64
	}{{"f16", 1e-3}, {"bf16", 8e-3}, {"f64", 0}} {
		x, err := f.ReadTensor(c.name)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range x.Floats() {
			w := float64(wide.F32()[i/x.Shape[1]*192+i%x.Shape[1]])
			if math.Abs(v-w) > c.eps*math.Abs(w) {
				t.Errorf("%s[%d] is %v, not %v", c.name, i, v, w)
			}
		}
	}
	original, err := os.ReadFile(ggmlFile)
	if err != nil || !bytes.Equal(original, rewrite(t, f)) {
		t.Fatalf("written again, the bytes differ (%v)", err)
	}
}

func TestVersion2ReadsLikeVersion3(t *testing.T) {
	meta, tensors := sample(t)
	data := write(t, meta, tensors)
	data[4] = 2
	f := read(t, data)
	data[4] = 3
	if f.Version != 2 || !bytes.Equal(data, rewrite(t, f)) {
		t.Fatalf("version %d", f.Version)
	}
}

func TestOpenNamesWhatIsNoFile(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrFormat) {
		t.Fatalf("directory: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("missing: %v", err)
	}
	if _, err := Open(os.DevNull); !errors.Is(err, ErrFormat) {
		t.Fatalf("device: %v", err)
	}
}

func TestWriteFileReadsBack(t *testing.T) {
	meta, tensors := sample(t)
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := WriteFile(path, meta, tensors); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := f.Metadata.String("general.architecture"); err != nil || s != "tern-test" {
		t.Fatalf("%q, %v", s, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWriteRefusesWhatNoReaderTakes(t *testing.T) {
	one := tensor.FromF32([]float32{1}, 1)
	named := func(name string) []TensorInfo { return []TensorInfo{plain(t, name, one)} }
	deep := []any{[]any{[]any{[]any{[]int8{1}}}}}
	for name, c := range map[string]struct {
		meta    []KV
		tensors []TensorInfo
		want    error
	}{
		"empty key":           {meta: []KV{{"", true}}, want: ErrFormat},
		"key twice":           {meta: []KV{{"a", true}, {"a", true}}, want: ErrFormat},
		"unknown value":       {meta: []KV{{"a", 1}}, want: ErrType},
		"unknown array":       {meta: []KV{{"a", []any{1}}}, want: ErrType},
		"deep array":          {meta: []KV{{"a", deep}}, want: ErrFormat},
		"alignment type":      {meta: []KV{{KeyAlignment, int32(32)}}, want: ErrFormat},
		"alignment zero":      {meta: []KV{{KeyAlignment, uint32(0)}}, want: ErrFormat},
		"alignment 24":        {meta: []KV{{KeyAlignment, uint32(24)}}, want: ErrFormat},
		"empty name":          {tensors: named(""), want: ErrFormat},
		"long name":           {tensors: named(string(bytes.Repeat([]byte("n"), 64))), want: ErrFormat},
		"name twice":          {tensors: append(named("a"), named("a")...), want: ErrFormat},
		"zero dimension":      {tensors: []TensorInfo{FromBytes("a", ggml.F32, tensor.Shape{0}, nil)}, want: ErrFormat},
		"five dimensions":     {tensors: []TensorInfo{FromBytes("a", ggml.I8, tensor.Shape{1, 1, 1, 1, 1}, []byte{1})}, want: ErrFormat},
		"overflow":            {tensors: []TensorInfo{FromBytes("a", ggml.I8, tensor.Shape{1 << 30, 1 << 30}, nil)}, want: ErrFormat},
		"ragged block":        {tensors: []TensorInfo{FromBytes("a", ggml.Q2_0, tensor.Shape{2, 32}, nil)}, want: ErrFormat},
		"unknown tensor type": {tensors: []TensorInfo{FromBytes("a", 4, tensor.Shape{1}, nil)}, want: ErrFormat},
	} {
		var b bytes.Buffer
		if err := Write(&b, c.meta, c.tensors); !errors.Is(err, c.want) || b.Len() != 0 {
			t.Errorf("%s: %v after %d bytes", name, err, b.Len())
		} else if len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: no hint in %v", name, err)
		}
	}
	if _, err := FromTensor("a", tensor.New(tensor.T(tensor.U2, 1, 64))); !errors.Is(err, ErrType) {
		t.Errorf("packed codes: %v", err)
	}
}

func TestWriteRefusesDataOfAnotherSize(t *testing.T) {
	for _, n := range []int{3, 5} {
		err := Write(io.Discard, nil, []TensorInfo{FromBytes("a", ggml.F32, tensor.Shape{1}, make([]byte, n))})
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestTypesKnowTheirSizes(t *testing.T) {
	for _, c := range []struct {
		t     ggml.Type
		shape tensor.Shape
		want  int64
	}{
		{ggml.Q2_0, tensor.Shape{50257, 768}, 50257 * 768 / 64 * 18},
		{ggml.TQ2_0, tensor.Shape{4, 512}, 4 * 2 * 66},
		{ggml.TQ1_0, tensor.Shape{4, 512}, 4 * 2 * 54},
		{ggml.F16, tensor.Shape{}, 2},
	} {
		if n, err := c.t.Bytes(c.shape); n != c.want || err != nil {
			t.Errorf("%v%v: %d bytes, %v, want %d", c.t, c.shape, n, err, c.want)
		}
	}
	if d, ok := ggml.BF16.DType(); d != tensor.BF16 || !ok {
		t.Errorf("BF16 is %v", d)
	}
	if ggml.Q2_0.Block() != 64 || ggml.Q2_0.BlockBytes() != 18 || ggml.Type(5).Known() {
		t.Error("blocks")
	}
}

// le appends little-endian integers and strings: a header by hand.
func le(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		case int:
			b = binary.LittleEndian.AppendUint64(b, uint64(p))
		default:
			b, _ = binary.Append(b, binary.LittleEndian, p)
		}
	}
	return b
}
