package gguf

import (
	"bytes"
	"io"
	"math"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
)

// head begins a file with counts of tensors and keys.
func head(tensors, kvs int, rest ...any) []byte {
	return append(le("GGUF", uint32(3), tensors, kvs), le(rest...)...)
}

// one describes a tensor "w" with dimensions, type and offset, then data.
func one(dims []any, typ ggml.Type, offset int, data int) []byte {
	h := head(1, 0, 1, "w", uint32(len(dims)), le(dims...), uint32(typ), offset)
	h = append(h, make([]byte, pad(int64(len(h)), 32)-int64(len(h)))...)
	return append(h, make([]byte, data)...)
}

// hostile is a file that no reader should take, and what the error says.
type hostile struct {
	data []byte
	says string
}

func hostileFiles() map[string]hostile {
	nest := []byte{}
	for range 100 {
		nest = append(nest, le(uint32(9), 1)...)
	}
	two := func(off1, off2 int) []byte {
		h := head(2, 0, 1, "a", uint32(1), 64, uint32(ggml.I8), off1, 1, "b", uint32(1), 64, uint32(ggml.I8), off2)
		h = append(h, make([]byte, pad(int64(len(h)), 32)-int64(len(h)))...)
		return append(h, make([]byte, 256)...)
	}
	return map[string]hostile{
		"empty":                 {nil, "magic"},
		"misspelt magic":        {le("GGUFX", 0, 0, 0)[1:], "GGUF"},
		"pickle":                {[]byte("\x80\x02}q\x00.................."), "GGUF"},
		"version 1":             {le("GGUF", uint32(1), 0, 0), "version 1"},
		"version 4":             {le("GGUF", uint32(4), 0, 0), "version 4"},
		"big endian":            {le("GGUF", uint32(3<<24), 0, 0), "big endian"},
		"tensor count":          {head(1<<60, 0), "tensors"},
		"negative count":        {head(-1, 0), "tensors"},
		"key count":             {head(0, 1<<62), "metadata entries"},
		"key length":            {head(0, 1, 1<<40, "abcdefgh"), "text"},
		"key length wraps":      {head(0, 1, -1, "abcdefgh"), "text"},
		"empty key":             {head(0, 1, 0, uint32(7), uint8(1), uint32(0)), "empty"},
		"key not UTF-8":         {head(0, 1, 1, "\xff", uint32(7), uint8(1)), "UTF-8"},
		"duplicate key":         {head(0, 2, 1, "k", uint32(7), uint8(1), 1, "k", uint32(7), uint8(1)), "twice"},
		"value type":            {head(0, 1, 1, "k", uint32(13), 0), "value type 13"},
		"bool 2":                {head(0, 1, 1, "k", uint32(7), uint8(2)), "bool"},
		"bools":                 {head(0, 1, 1, "k", uint32(9), uint32(7), 1, uint8(2)), "bool"},
		"string length":         {head(0, 1, 1, "k", uint32(8), 1<<33), "text"},
		"array length":          {head(0, 1, 1, "k", uint32(9), uint32(4), 1<<61), "elements"},
		"array length wraps":    {head(0, 1, 1, "k", uint32(9), uint32(10), 1<<61+1, 0), "elements"},
		"array of strings":      {head(0, 1, 1, "k", uint32(9), uint32(8), 2, 1), "elements"},
		"array element type":    {head(0, 1, 1, "k", uint32(9), uint32(99), 1, 0), "type 99"},
		"arrays without end":    {head(0, 1, 1, "k", uint32(9), nest), "nested"},
		"alignment 0":           {head(0, 1, 17, KeyAlignment, uint32(4), uint32(0)), "power of two"},
		"alignment 3":           {head(0, 1, 17, KeyAlignment, uint32(4), uint32(3)), "power of two"},
		"alignment huge":        {head(0, 1, 17, KeyAlignment, uint32(4), uint32(1<<31)), "power of two"},
		"alignment a string":    {head(0, 1, 17, KeyAlignment, uint32(8), 2, "32"), "not a u32"},
		"name empty":            {head(1, 0, 0, uint32(1), 1, uint32(0), 0), "empty"},
		"name of 64 bytes":      {head(1, 0, 64, strings.Repeat("n", 64), uint32(1), 1, uint32(0), 0), "63"},
		"duplicate tensor":      {head(2, 0, 1, "w", uint32(0), uint32(0), 0, 1, "w", uint32(0), uint32(0), 0), "twice"},
		"five dimensions":       {one([]any{1, 1, 1, 1, 1}, ggml.F32, 0, 64), "5 dimensions"},
		"dimension 0":           {one([]any{4, 0}, ggml.F32, 0, 64), "dimension 1 is 0"},
		"dimension negative":    {one([]any{-4}, ggml.F32, 0, 64), "dimension"},
		"elements overflow":     {one([]any{1 << 40, 1 << 40}, ggml.F32, 0, 64), "elements"},
		"elements wrap":         {one([]any{1 << 32, 1 << 32}, ggml.I8, 0, 64), "elements"},
		"unknown type":          {one([]any{4}, 36, 0, 64), "type 36"},
		"ragged block":          {one([]any{32}, ggml.Q2_0, 0, 64), "multiple"},
		"data beyond the end":   {one([]any{17}, ggml.F32, 0, 64), "beyond the end"},
		"offset beyond the end": {one([]any{1}, ggml.F32, 64, 64), "beyond the end"},
		"offset huge":           {one([]any{1}, ggml.F32, math.MaxInt64&^31, 64), "beyond the end"},
		"offset negative":       {one([]any{1}, ggml.F32, -32, 64), "overflows"},
		"offset not aligned":    {one([]any{1}, ggml.F32, 8, 64), "alignment"},
		"overlap":               {two(0, 32), "overlap"},
		"overlap out of order":  {two(64, 32), "overlap"},
		"string length 2^63":    {head(0, 1, 1, "k", uint32(8), math.MinInt64, "x"), "key \"k\" at byte 45"},
		"string length 2^64-1":  {head(0, 1, 1, "k", uint32(8), -1, "x"), "key \"k\" at byte 45"},
		"bytes of f64s wrap":    {head(0, 1, 1, "k", uint32(9), uint32(12), 1<<61+1, 0), "key \"k\" at byte 49"},
		"strings without end":   {head(0, 1, 1, "k", uint32(9), uint32(8), -1, 0, 0), "elements"},
		"arrays, many":          {head(0, 1, 1, "k", uint32(9), uint32(9), 1<<60, uint32(0), 0), "elements"},
		"type of an array wild": {head(0, 1, 1, "k", uint32(9), uint32(math.MaxUint32), 1), "key \"k\" at byte 41"},
		"value type wild":       {head(0, 1, 1, "k", uint32(math.MaxUint32), 0), "key \"k\" at byte 37"},
		"dimensions wild":       {head(1, 0, 1, "w", uint32(math.MaxUint32), 1, 1), "tensor \"w\" at byte 37"},
		"bytes of a tensor":     {one([]any{1 << 20, 1 << 20}, ggml.F64, 0, 64), "tensor \"w\": 8796093022208 bytes at offset 0"},
		"blocks of a tensor":    {one([]any{1 << 20, 1 << 20}, 15, 0, 64), "tensor \"w\": 1254130450432 bytes at offset 0"},
		"offset and size wrap":  {one([]any{1 << 40}, ggml.F64, math.MaxInt64&^31, 64), "beyond the end"},
		"ragged rows":           {one([]any{100, 256}, ggml.TQ2_0, 0, 1<<16), "rows of 100 elements"},
	}
}

// refuse reports an error that is not what c asks for, or does not say where.
func (c hostile) refuse(t *testing.T, name string, err error) {
	t.Helper()
	where := regexp.MustCompile(`(at byte|offset) -?\d+`)
	switch {
	case !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says):
		t.Errorf("%s: %v, want something with %q", name, err, c.says)
	case len(errors.GetAllHints(err)) == 0:
		t.Errorf("%s: no hint in %v", name, err)
	case !where.MatchString(err.Error()):
		t.Errorf("%s: no place in %v", name, err)
	}
}

func TestReadRefusesHostileFiles(t *testing.T) {
	for name, c := range hostileFiles() {
		_, err := Read(bytes.NewReader(c.data), int64(len(c.data)))
		c.refuse(t, name, err)
	}
	two := func(off1, off2 int) []byte {
		h := head(2, 0, 1, "a", uint32(1), 64, uint32(ggml.I8), off1, 1, "b", uint32(1), 64, uint32(ggml.I8), off2)
		h = append(h, make([]byte, pad(int64(len(h)), 32)-int64(len(h)))...)
		return append(h, make([]byte, 256)...)
	}
	for _, data := range [][]byte{one([]any{16}, ggml.F32, 0, 64), two(64, 0), two(0, 64)} { // sound
		if _, err := Read(bytes.NewReader(data), int64(len(data))); err != nil {
			t.Error(err)
		}
	}
}

// TestLimitsHoldWhereTheFileIsLargeEnough reads lengths that fit in a sparse
// file and are more than the package allows, and writes the same.
func TestLimitsHoldWhereTheFileIsLargeEnough(t *testing.T) {
	for name, h := range map[string][]byte{
		"string":   head(0, 1, 1, "k", uint32(8), maxText+1),
		"key":      head(0, 1, maxKey+1),
		"name":     head(1, 0, maxKey+1),
		"numbers":  head(0, 1, 1, "k", uint32(9), uint32(0), maxElements+1),
		"strings":  head(0, 1, 1, "k", uint32(9), uint32(8), maxElements+1),
		"in array": head(0, 1, 1, "k", uint32(9), uint32(8), 1, maxText+1),
		"tensors":  head(maxEntries+1, 0),
		"keys":     head(0, maxEntries+1),
	} {
		if _, err := Read(sparse{h}, 1<<40); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "allowed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Write(io.Discard, make([]KV, maxEntries+1), nil); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "allowed") {
		t.Errorf("write keys: %v", err)
	}
	text := strings.Repeat("x", maxText+1)
	for name, v := range map[string]any{"string": text, "strings": []string{text}, "numbers": make([]uint8, maxElements+1), "arrays": make([]any, maxElements+1)} {
		if err := Write(io.Discard, []KV{{"k", v}}, nil); !errors.Is(err, ErrFormat) {
			t.Errorf("write %s: %v", name, err)
		}
	}
}

// TestEveryTruncationIsNoticed cuts files at every byte up to the end of the
// last tensor.
func TestEveryTruncationIsNoticed(t *testing.T) {
	meta, tensors := sample(t)
	ours := write(t, meta, tensors)
	ggml, err := os.ReadFile(ggmlFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{ours, ggml} {
		last := read(t, data).Tensors
		end := last[len(last)-1].Offset + last[len(last)-1].Size
		for n := range end {
			if _, err := Read(bytes.NewReader(data[:n]), n); !errors.Is(err, ErrFormat) {
				t.Fatalf("cut to %d of %d bytes: %v", n, len(data), err)
			}
		}
	}
}

func TestShrinkingFileIsAnError(t *testing.T) {
	meta, tensors := sample(t)
	data := write(t, meta, tensors)
	f, err := Read(bytes.NewReader(data[:len(data)-64]), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadRaw("i16"); !errors.Is(err, ErrFormat) {
		t.Fatalf("error %v", err)
	}
	if _, err := f.ReadRaw("none"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("error %v", err)
	}
	if _, err := f.ReadTensor("i16"); !errors.Is(err, ErrType) {
		t.Fatalf("error %v", err)
	}
}

// sparse is a huge file of zeros behind a header.
type sparse struct{ head []byte }

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.head)) {
		copy(p, s.head[off:])
	}
	return len(p), nil
}

// TestHugeClaimsCostNothing reads headers that claim what only a huge file
// could hold, from a file that claims to be huge.
func TestHugeClaimsCostNothing(t *testing.T) {
	for name, h := range map[string][]byte{
		"tensors": head(1<<50, 0),
		"keys":    head(0, 1<<50),
		"array":   head(0, 1, 1, "k", uint32(9), uint32(0), 1<<55),
		"string":  head(0, 1, 1, "k", uint32(8), 1<<55),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Read(sparse{h}, 1<<60)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("%s: %d bytes were allocated", name, n)
		}
	}
}

func FuzzRead(f *testing.F) {
	meta, tensors := sample(f)
	f.Add(write(f, append(meta, nested), tensors))
	if data, err := os.ReadFile(ggmlFile); err == nil {
		f.Add(data[:4864]) // up to the last small tensor
	}
	f.Add(one([]any{64, 2}, ggml.Q2_0, 0, 64))
	f.Add(head(0, 1, 1, "k", uint32(9), uint32(9), 1, uint32(9), 1, uint32(0), 1, uint8(1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		// What is accepted can be written, and reads as the same.
		again := read(t, rewrite(t, x))
		if len(again.Metadata) != len(x.Metadata) || len(again.Tensors) != len(x.Tensors) {
			t.Fatal("written again, the file differs")
		}
		if !bytes.Equal(rewrite(t, x), rewrite(t, again)) {
			t.Fatal("written twice, the bytes differ")
		}
		for _, ti := range x.Tensors {
			if ggml.EncodesTwoBit(ti.Type) && len(ti.Shape) == 2 {
				_, _, _ = x.ReadCodes(ti.Name, 64) // must not panic
			}
		}
	})
}
