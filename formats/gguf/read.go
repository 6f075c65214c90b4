package gguf

import (
	"cmp"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/tensor"
)

// magic is the four letters that a file begins with, read as a u32.
const magic = 0x46554747 // "GGUF"

// maxName is the longest tensor name in bytes: ggml's GGML_MAX_NAME less the
// closing zero.
const maxName = 63

// maxAlignment bounds the alignment: padding is written, and costs its size.
const maxAlignment = 1 << 20

// maxKey is the longest metadata key in bytes.
const maxKey = 1<<16 - 1

// Read reads the header of a file of size bytes. Everything that it describes
// is checked to lie inside those bytes; tensors may not overlap, and names and
// keys are unique. Tensor data is read later, from r. Of a split file this is
// one part alone, with the keys that say so. Errors are ErrFormat.
func Read(r io.ReaderAt, size int64) (*File, error) {
	d := newDecoder(r, size)
	f := &File{Size: size, Alignment: DefaultAlignment, parts: []*part{{r: r, size: size}}}
	tensors, kvs := f.head(d)
	f.metadata(d, kvs)
	f.describe(d, tensors)
	if d.err != nil {
		return nil, d.err
	}
	if err := f.place(d.pos); err != nil {
		return nil, err
	}
	return f, nil
}

// head reads magic, version and the two counts.
func (f *File) head(d *decoder) (tensors, kvs int) {
	d.at = "magic"
	if m := d.u32(); d.err == nil && m != magic {
		d.pos = 0
		d.fail("the file begins with %#08x, not with \"GGUF\"", m)
	}
	d.at = "version"
	f.Version = d.u32()
	switch {
	case d.err != nil:
		return 0, 0
	case f.Version&0xffff == 0 && f.Version != 0:
		d.fail("version %#x is big endian; only little-endian files are read", f.Version)
	case f.Version != 2 && f.Version != 3:
		d.fail("version %d is not supported, only 2 and 3 are", f.Version)
	}
	const leastTensor, leastKV = 8 + 4 + 4 + 8, 8 + 4 + 1
	d.at = "tensor count"
	tensors = d.count("tensors", leastTensor, maxEntries)
	d.at = "metadata count"
	return tensors, d.count("metadata entries", leastKV, maxEntries)
}

// metadata reads n entries.
func (f *File) metadata(d *decoder, n int) {
	seen := make(map[string]bool, min(n, 1024))
	for i := 0; i < n && d.err == nil; i++ {
		d.at = "metadata key"
		key := d.str(maxKey)
		if d.err != nil {
			return
		}
		if err := checkText(key, maxKey); err != "" {
			d.fail("key %d %s", i, err)
			return
		}
		if seen[key] {
			d.fail("key %q occurs twice", key)
			return
		}
		seen[key] = true
		d.at = "metadata key " + strconv.Quote(key)
		v := d.value(ValueType(d.u32()), 0)
		f.Metadata = append(f.Metadata, KV{key, v})
	}
	if d.err != nil {
		return
	}
	a, err := alignment(f.Metadata)
	if err != "" {
		d.at = "metadata"
		d.fail("%s", err)
	}
	f.Alignment = a
}

// alignment returns what the metadata asks for, or what is wrong with it.
func alignment(m Metadata) (int64, string) {
	v, ok := m.Get(KeyAlignment)
	if !ok {
		return DefaultAlignment, ""
	}
	a, ok := v.(uint32)
	if !ok {
		return 0, KeyAlignment + " is a " + typeName(v) + ", not a u32"
	}
	if a == 0 || a&(a-1) != 0 || a > maxAlignment {
		return 0, KeyAlignment + " is no power of two up to " + strconv.Itoa(maxAlignment)
	}
	return int64(a), ""
}

// describe reads the descriptions of n tensors; Offset stays relative.
func (f *File) describe(d *decoder, n int) {
	f.byName = make(map[string]int, min(n, 4096))
	for i := 0; i < n && d.err == nil; i++ {
		d.at = "tensor name"
		name := d.str(maxKey) // checkText knows the tighter limit, and which tensor it is
		if d.err != nil {
			return
		}
		if err := checkText(name, maxName); err != "" {
			d.fail("tensor %d's name %s", i, err)
			return
		}
		if _, ok := f.byName[name]; ok {
			d.fail("tensor %q occurs twice", name)
			return
		}
		d.at = "tensor " + strconv.Quote(name)
		f.byName[name] = i
		f.Tensors = append(f.Tensors, describeOne(d, name))
	}
}

func describeOne(d *decoder, name string) Tensor {
	t := Tensor{Name: name}
	dims := d.u32()
	if d.err == nil && dims > ggml.MaxDims {
		d.fail("%d dimensions, at most %d are allowed", dims, ggml.MaxDims)
	}
	if d.err != nil {
		return t
	}
	t.Shape = make(tensor.Shape, dims)
	for i := range t.Shape { // the innermost comes first in the file
		n := d.u64()
		if d.err == nil && (n == 0 || n > tensor.MaxElements) {
			d.fail("dimension %d is %d", i, n)
		}
		t.Shape[len(t.Shape)-1-i] = int(n)
	}
	t.Type = ggml.Type(d.u32())
	offset := d.u64()
	if d.err != nil {
		return t
	}
	size, err := t.Type.Bytes(t.Shape)
	if err != nil {
		d.fail("%v", err)
	}
	if offset > math.MaxInt64 {
		d.fail("offset %d overflows", offset)
	}
	t.Offset, t.Size = int64(offset), size
	return t
}

// place turns relative offsets into positions in the file, and checks that
// tensors are aligned, inside the file and apart from each other.
func (f *File) place(headerEnd int64) error {
	f.DataStart = min(pad(headerEnd, f.Alignment), f.Size)
	room := f.Size - f.DataStart
	order := make([]int, len(f.Tensors))
	for i := range f.Tensors {
		t := &f.Tensors[i]
		order[i] = i
		if t.Offset%f.Alignment != 0 {
			return malformed("tensor %q: offset %d is no multiple of the alignment %d", t.Name, t.Offset, f.Alignment)
		}
		if t.Offset > room || t.Size > room-t.Offset {
			return malformed("tensor %q: %d bytes at offset %d reach beyond the end of the file, which has %d bytes of tensor data",
				t.Name, t.Size, t.Offset, room)
		}
		t.Offset += f.DataStart
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(f.Tensors[i].Offset, f.Tensors[j].Offset) })
	for k := 1; k < len(order); k++ {
		a, b := &f.Tensors[order[k-1]], &f.Tensors[order[k]]
		if a.Offset+a.Size > b.Offset {
			return malformed("tensors %q and %q overlap at byte %d", a.Name, b.Name, b.Offset)
		}
	}
	return nil
}

// checkText returns what is wrong with a key or name, or "".
func checkText(s string, limit int) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > limit:
		return "is longer than " + strconv.Itoa(limit) + " bytes"
	case !utf8.ValidString(s):
		return "is not UTF-8"
	}
	return ""
}

// pad rounds n up to a multiple of align, a power of two.
func pad(n, align int64) int64 { return (n + align - 1) &^ (align - 1) }
