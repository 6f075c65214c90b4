package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/regularfile"
)

// Tensor describes one tensor of a file.
type Tensor struct {
	Name   string
	DType  string       // the format's name, such as "BF16"
	Shape  tensor.Shape // as stored, outermost first
	Type   tensor.Type  // what ReadTensor returns; its DType is Invalid if package tensor has none
	Offset int64        // of the data, from the start of the file
	Size   int64        // of the data, in bytes
}

// File is an open safetensors file: its header in memory, its tensors on disk.
type File struct {
	Metadata map[string]string // without this package's own "tern.type." keys
	Tensors  []Tensor          // in the order of their data
	Size     int64             // of the whole file

	r      io.ReaderAt
	closer io.Closer
	byName map[string]int
}

// Open opens the file at path and reads its header; the caller closes it. A
// path that is no regular file is an ErrFormat.
func Open(path string) (*File, error) {
	r, size, err := regularfile.Open(path)
	switch {
	case errors.Is(err, regularfile.ErrIrregular):
		return nil, malformed("%v", err)
	case err != nil:
		return nil, errors.Wrap(err, "open safetensors")
	}
	f, err := Read(r, size)
	if err != nil {
		return nil, errors.CombineErrors(errors.Wrapf(err, "read %s", path), r.Close())
	}
	f.closer = r
	return f, nil
}

// Close closes what Open opened.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Read reads the header of a file of size bytes. The tensors must cover the
// data without holes or overlaps, as the format demands, and have no dimension
// of 0. Tensor data is read later, from r. Errors are ErrFormat.
func Read(r io.ReaderAt, size int64) (*File, error) {
	head, err := readHead(r, size)
	if err != nil {
		return nil, err
	}
	f := &File{Metadata: map[string]string{}, Size: size, r: r, byName: map[string]int{}}
	if err := f.parse(head); err != nil {
		return nil, err
	}
	if err := f.place(8 + int64(len(head))); err != nil {
		return nil, err
	}
	return f, f.unpackTypes()
}

// readHead returns the JSON header.
func readHead(r io.ReaderAt, size int64) ([]byte, error) {
	var b [8]byte
	if size < int64(len(b)) {
		return nil, malformed("%d bytes are too few for a header", size)
	}
	if n, err := r.ReadAt(b[:], 0); n < len(b) {
		return nil, malformed("header length: %v", err)
	}
	n := binary.LittleEndian.Uint64(b[:])
	if n > maxHeader || n > uint64(size-8) {
		return nil, malformed("a header of %d bytes, in a file of %d; at most %d are allowed", n, size, maxHeader)
	}
	head := make([]byte, n)
	if m, err := r.ReadAt(head, 8); m < len(head) {
		return nil, malformed("header: %d of %d bytes read: %v", m, n, err)
	}
	if len(head) == 0 || head[0] != '{' {
		return nil, malformed("the header does not begin with '{'")
	}
	return head, nil
}

// parse reads the header's members; it goes by tokens to see a name that
// occurs twice.
func (f *File) parse(head []byte) error {
	if !json.Valid(head) { // also bounds the depth before anything is decoded
		return malformed("the header is not JSON")
	}
	d := json.NewDecoder(strings.NewReader(string(head)))
	if _, err := d.Token(); err != nil {
		return malformed("header: %v", err)
	}
	meta := false
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return malformed("header: %v", err)
		}
		name, _ := tok.(string)
		if name == metaKey {
			if meta {
				return malformed("%s occurs twice", metaKey)
			}
			meta = true
			if err := d.Decode(&f.Metadata); err != nil || f.Metadata == nil {
				return malformed("%s is no object of strings: %v", metaKey, err)
			}
			continue
		}
		if _, ok := f.byName[name]; ok || name == "" {
			return malformed("tensor name %q is empty or occurs twice", name)
		}
		t, err := parseOne(d, name)
		if err != nil {
			return err
		}
		f.byName[name] = 0
		f.Tensors = append(f.Tensors, t)
	}
	return nil
}

// parseOne reads a tensor's description; its Offset stays relative.
func parseOne(d *json.Decoder, name string) (Tensor, error) {
	var h struct {
		DType   *string `json:"dtype"`
		Shape   []int64 `json:"shape"`
		Offsets []int64 `json:"data_offsets"`
	}
	if err := d.Decode(&h); err != nil {
		return Tensor{}, malformed("tensor %q: %v", name, err)
	}
	if h.DType == nil || h.Shape == nil || len(h.Offsets) != 2 {
		return Tensor{}, malformed("tensor %q: dtype, shape or two data_offsets are missing", name)
	}
	info, ok := dtypes[*h.DType]
	if !ok {
		return Tensor{}, malformed("tensor %q: unknown dtype %q", name, *h.DType)
	}
	lo, hi := h.Offsets[0], h.Offsets[1]
	if lo < 0 || hi < lo {
		return Tensor{}, malformed("tensor %q: data_offsets %v", name, h.Offsets)
	}
	t := Tensor{Name: name, DType: *h.DType, Shape: make(tensor.Shape, len(h.Shape)), Offset: lo, Size: hi - lo}
	for i, n := range h.Shape {
		if n <= 0 || n > tensor.MaxElements {
			return Tensor{}, malformed("tensor %q: dimension %d of %v", name, n, h.Shape)
		}
		t.Shape[i] = int(n)
	}
	as := info.dtype // checked as a type of the same size
	if as == tensor.Invalid {
		as = tensor.I8
	}
	if err := (tensor.Type{DType: as, Shape: t.Shape}).Check(); err != nil {
		return Tensor{}, malformed("tensor %q: %v", name, err)
	}
	if want := int64(t.Shape.Numel()) * int64(info.bits/8); want != t.Size {
		return Tensor{}, malformed("tensor %q: %s%v takes %d bytes, data_offsets hold %d", name, t.DType, t.Shape, want, t.Size)
	}
	t.Type = tensor.Type{DType: info.dtype, Shape: t.Shape}
	return t, nil
}

// place sorts the tensors by where they lie, checks that they cover the data,
// and makes offsets absolute.
func (f *File) place(start int64) error {
	slices.SortStableFunc(f.Tensors, func(a, b Tensor) int {
		if a.Offset != b.Offset {
			return int(max(-1, min(1, a.Offset-b.Offset)))
		}
		return strings.Compare(a.Name, b.Name)
	})
	at := start
	for i := range f.Tensors {
		t := &f.Tensors[i]
		if t.Offset != at-start {
			return malformed("tensor %q begins at %d of the data, the one before it ends at %d", t.Name, t.Offset, at-start)
		}
		if t.Size > f.Size-at {
			return malformed("tensor %q: %d bytes at %d reach beyond the end of the file of %d bytes", t.Name, t.Size, at, f.Size)
		}
		t.Offset = at
		at += t.Size
		f.byName[t.Name] = i
	}
	if at != f.Size {
		return malformed("%d bytes after the last tensor", f.Size-at)
	}
	return nil
}

// unpackTypes gives packed tensors their real type and hides the metadata that
// holds it.
func (f *File) unpackTypes() error {
	for k, v := range f.Metadata {
		name, ok := strings.CutPrefix(k, typePrefix)
		if !ok {
			continue
		}
		i, ok := f.byName[name]
		if !ok {
			return malformed("metadata gives the type of %q, which is no tensor", name)
		}
		t := &f.Tensors[i]
		typ, err := tensor.ParseType(v)
		if err != nil || !typ.DType.Codes() || t.DType != u8 || !storedShape(typ).Equal(t.Shape) {
			return malformed("tensor %q: metadata says %q, the tensor is %s%v", name, v, t.DType, t.Shape)
		}
		t.Type = typ
		delete(f.Metadata, k)
	}
	return nil
}

// Tensor returns the description of a tensor; ErrNotFound if there is none.
func (f *File) Tensor(name string) (Tensor, error) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, errors.WithHint(errors.Wrapf(ErrNotFound, "tensor %q", name),
			"the file belongs to another model; list its tensors with `tern inspect`")
	}
	return f.Tensors[i], nil
}

// Section returns a reader of a tensor's bytes; ErrNotFound if there is no
// such tensor.
func (f *File) Section(name string) (*io.SectionReader, error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f.r, t.Offset, t.Size), nil
}

// ReadRaw returns the bytes of a tensor of any dtype, on a 64-byte boundary;
// ErrNotFound if there is none, ErrFormat if the file has shrunk.
func (f *File) ReadRaw(name string) ([]byte, error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, err
	}
	data := tensor.AlignedBytes(int(t.Size))
	if err := f.ReadInto(name, data); err != nil {
		return nil, err
	}
	return data, nil
}

// ReadInto fills dst, which is as long as the tensor is, with its bytes. Errors are
// those of ReadRaw, and ErrType for another length.
func (f *File) ReadInto(name string, dst []byte) error {
	t, err := f.Tensor(name)
	if err != nil {
		return err
	}
	if int64(len(dst)) != t.Size {
		return errors.Wrapf(ErrType, "tensor %q has %d bytes, not %d", name, t.Size, len(dst))
	}
	if n, err := f.r.ReadAt(dst, t.Offset); n < len(dst) {
		return malformed("tensor %q: %d of %d bytes read at byte %d: %v", name, n, len(dst), t.Offset, err)
	}
	return nil
}

// ReadTensor returns a tensor in its own encoding. Errors are ErrNotFound,
// ErrFormat, and ErrType for a dtype that package tensor lacks, whose bytes
// ReadRaw returns.
func (f *File) ReadTensor(name string) (*tensor.Tensor, error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, err
	}
	if t.Type.DType == tensor.Invalid {
		return nil, errors.WithHint(errors.Wrapf(ErrType, "tensor %q is %s", name, t.DType),
			"convert it to one of F32, F16, BF16, F64, I8, I32, BOOL first")
	}
	data, err := f.ReadRaw(name)
	if err != nil {
		return nil, err
	}
	if err := checkBool(t, data); err != nil {
		return nil, err
	}
	return &tensor.Tensor{Type: tensor.Type{DType: t.Type.DType, Shape: slices.Clone(t.Type.Shape)}, Data: data}, nil
}

// checkBool refuses bools that are neither 0 nor 1.
func checkBool(t Tensor, data []byte) error {
	if t.Type.DType != tensor.Bool {
		return nil
	}
	for i, b := range data {
		if b > 1 {
			return malformed("tensor %q: element %d is %d, neither 0 nor 1", t.Name, i, b)
		}
	}
	return nil
}
