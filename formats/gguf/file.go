package gguf

import (
	"io"
	"os"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/regularfile"
)

// Tensor describes one tensor of a file.
type Tensor struct {
	Name   string
	Type   ggml.Type
	Shape  tensor.Shape // outermost first
	Offset int64        // of the data, from the start of the file, or of the part
	Size   int64        // of the data, in bytes
	Part   int          // index into Parts; 0 for the first or only file
}

// File is an open GGUF file, in one part or in several: its header in memory,
// its tensors on disk. It is safe for concurrent use until Close.
type File struct {
	Version   uint32 // 2 or 3
	Alignment int64  // of tensor data
	// Metadata is the first part's. Of a split file it lacks the keys that
	// describe the splitting, which are not true of the whole.
	Metadata  Metadata
	Tensors   []Tensor // in the file's order, part by part
	DataStart int64    // where tensor data begins in the first part
	Size      int64    // of the whole file, all parts together

	parts  []*part
	byName map[string]int
}

// Open opens the file at path and reads its header; the caller closes it. Of a
// split file path names the first part, and the others are opened beside it:
// the File is then the whole, as if it were one file. Another part, parts that
// are missing or do not belong together, and a path that is no regular file
// are ErrFormat.
func Open(path string) (*File, error) {
	f, err := openOne(path)
	if err != nil {
		return nil, err
	}
	if err := f.openParts(path); err != nil {
		return nil, errors.CombineErrors(err, f.Close())
	}
	return f, nil
}

// openOne opens one file, be it whole or a part.
func openOne(path string) (*File, error) {
	r, size, err := regularfile.Open(path)
	switch {
	case errors.Is(err, regularfile.ErrIrregular):
		return nil, malformed("%v", err)
	case err != nil:
		return nil, errors.Wrap(err, "open gguf")
	}
	f, err := Read(r, size)
	if err != nil {
		return nil, errors.CombineErrors(errors.Wrapf(err, "read %s", path), r.Close())
	}
	f.parts[0].path, f.parts[0].file = path, r
	return f, nil
}

// Parts returns the paths of the files that Open opened, one for a file that
// is not split; none for a File of Read.
func (f *File) Parts() []string {
	var paths []string
	for _, p := range f.parts {
		if p.file != nil {
			paths = append(paths, p.path)
		}
	}
	return paths
}

// Close closes what Open opened. Views must not be used any more.
func (f *File) Close() error {
	var err error
	for _, p := range f.parts {
		err = errors.CombineErrors(err, p.close())
	}
	return err
}

// Tensor returns the description of a tensor; ErrNotFound if there is none.
func (f *File) Tensor(name string) (Tensor, error) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, errors.WithHint(errors.Wrapf(ErrNotFound, "tensor %q", name),
			"the file was made for another architecture; list its tensors with `tern inspect`")
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
	return io.NewSectionReader(f.parts[t.Part].r, t.Offset, t.Size), nil
}

// ReadRaw returns the bytes of a tensor of any type, on a 64-byte boundary;
// ErrNotFound if there is none, ErrFormat if the file has shrunk.
func (f *File) ReadRaw(name string) ([]byte, error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, err
	}
	data := tensor.AlignedBytes(int(t.Size))
	return data, f.ReadInto(name, data)
}

// ReadInto is ReadRaw into the memory of dst, which must be as long as the bytes
// are: ErrType if not.
func (f *File) ReadInto(name string, dst []byte) error {
	t, err := f.Tensor(name)
	if err != nil {
		return err
	}
	if int64(len(dst)) != t.Size {
		return errors.Wrapf(ErrType, "tensor %q has %d bytes, not %d", name, t.Size, len(dst))
	}
	return f.readAt(dst, t, 0)
}

// readAt fills p with t's bytes from at on.
func (f *File) readAt(p []byte, t Tensor, at int64) error {
	switch n, err := f.parts[t.Part].r.ReadAt(p, t.Offset+at); {
	case n == len(p):
		return nil
	case errors.Is(err, os.ErrClosed):
		return errors.Wrapf(err, "tensor %q", t.Name)
	default:
		return malformed("tensor %q: %d of %d bytes read at byte %d: %v", t.Name, n, len(p), t.Offset+at, err)
	}
}

// ReadTensor returns a tensor of type F32, F16, BF16, F64, I8 or I32, in its
// own encoding. Errors are ErrNotFound, ErrFormat, and ErrType for the other
// types, whose bytes ReadRaw and ReadCodes return.
func (f *File) ReadTensor(name string) (*tensor.Tensor, error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, err
	}
	dt, ok := t.Type.DType()
	if !ok {
		return nil, errors.WithHint(errors.Wrapf(ErrType, "tensor %q is %v, not a plain type", name, t.Type),
			"convert the file to one of F32, F16, BF16, Q2_0 first")
	}
	data, err := f.ReadRaw(name)
	if err != nil {
		return nil, err
	}
	return &tensor.Tensor{Type: tensor.Type{DType: dt, Shape: slices.Clone(t.Shape)}, Data: data}, nil
}
