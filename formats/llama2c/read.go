package llama2c

import (
	"encoding/binary"
	"io"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/regularfile"
)

// File is an open checkpoint: its header in memory, its tensors on disk.
type File struct {
	Config

	r      io.ReaderAt
	closer io.Closer
	at     map[string]place
}

type place struct {
	shape  tensor.Shape
	offset int64
}

// Open opens the checkpoint at path and reads its header; the caller closes
// it. Errors are ErrFormat and those of the file system.
func Open(path string) (*File, error) {
	r, size, err := regularfile.Open(path)
	switch {
	case errors.Is(err, regularfile.ErrIrregular):
		return nil, malformed("%v", err)
	case err != nil:
		return nil, errors.Wrap(err, "open llama2.c model")
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

// Read reads the header of a checkpoint of size bytes, which must be exactly
// what the header demands. Tensors are read later, from r. Errors are ErrFormat.
func Read(r io.ReaderAt, size int64) (*File, error) {
	var b [headerBytes]byte
	if size < headerBytes {
		return nil, malformed("%d bytes are too few for a header of %d", size, headerBytes)
	}
	if n, err := r.ReadAt(b[:], 0); n < len(b) {
		return nil, malformed("header: %v", err)
	}
	if string(b[:4]) == "24ka" { // 0x616b3432, little endian
		return nil, malformed("version %d of the format, only version 0 is read", binary.LittleEndian.Uint32(b[4:]))
	}
	var n [7]int
	for i := range n {
		n[i] = int(int32(binary.LittleEndian.Uint32(b[4*i:])))
	}
	c := Config{Dim: n[0], Hidden: n[1], Layers: n[2], Heads: n[3], KVHeads: n[4], Vocab: n[5], SeqLen: n[6], Shared: true}
	if c.Vocab < 0 {
		c.Vocab, c.Shared = -c.Vocab, false
	}
	if wrong := c.check(); wrong != "" {
		return nil, malformed("header: %s", wrong)
	}
	if want := c.size(); want != size {
		return nil, malformed("a model of %+v takes %d bytes, the file has %d", c, want, size)
	}
	f := &File{Config: c, r: r, at: map[string]place{}}
	offset := int64(headerBytes)
	for _, g := range c.groups() {
		for l := range g.count {
			if g.name != "" {
				f.at[g.tensorName(l)] = place{g.shape, offset}
			}
			offset += g.bytes()
		}
	}
	return f, nil
}

// Tensor reads the f32 tensor of a name of Names. Errors are ErrNotFound and,
// if the file has shrunk, ErrFormat.
func (f *File) Tensor(name string) (*tensor.Tensor, error) {
	p, ok := f.at[name]
	if !ok {
		return nil, errors.WithHint(errors.Wrapf(ErrNotFound, "tensor %q", name), "the names are those of llama.cpp's architecture llama")
	}
	t := tensor.New(tensor.Type{DType: tensor.F32, Shape: slices.Clone(p.shape)})
	if n, err := f.r.ReadAt(t.Data, p.offset); n < len(t.Data) {
		return nil, malformed("tensor %q: %d of %d bytes read at byte %d: %v", name, n, len(t.Data), p.offset, err)
	}
	return t, nil
}

// Shape returns the shape of a tensor; ErrNotFound if there is none.
func (f *File) Shape(name string) (tensor.Shape, error) {
	p, ok := f.at[name]
	if !ok {
		return nil, errors.WithHint(errors.Wrapf(ErrNotFound, "tensor %q", name), "the names are those of llama.cpp's architecture llama")
	}
	return slices.Clone(p.shape), nil
}
