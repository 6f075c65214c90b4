package gguf

import (
	"io"
	"os"
	"slices"
	"sync"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/mmap"
)

// part is one file of a File.
type part struct {
	r    io.ReaderAt
	size int64
	path string
	file *os.File // what r is, if Open opened it; nil otherwise

	mu      sync.Mutex
	mapping *mmap.Mapping // made when first asked for
	tried   bool          // to map; mapping stays nil where that cannot be
	closed  bool
}

// View returns the bytes of a tensor of any type in the mapped file, without a
// copy. They are read-only (a write ends the process), valid until Close, and
// read inside Guard: elsewhere a file that shrinks ends the process.
//
// A view begins at a multiple of the file's alignment, 32 unless its metadata
// says otherwise (down to 1: see File.Alignment before casting).
//
// The file is mapped at the first call. Where that cannot be (a File of Read,
// systems other than Unix, some file systems) every call reads the tensor as
// ReadRaw does. Errors are those of ReadRaw.
func (f *File) View(name string) ([]byte, error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, err
	}
	m, err := f.parts[t.Part].mapped()
	if err != nil {
		return nil, errors.Wrapf(err, "tensor %q", name)
	}
	if m == nil {
		return f.ReadRaw(name)
	}
	end := t.Offset + t.Size
	return m.Bytes()[t.Offset:end:end], nil
}

// Guard calls fn, in which views are read, and returns its error; or an
// ErrFormat if the file shrank or its disk failed in the meantime. It covers
// the goroutine that fn runs in: others that fn starts call Guard themselves.
// A file that is rewritten in place without shrinking is not noticed.
func (f *File) Guard(fn func() error) error {
	err := mmap.Guard(f.holds, fn)
	// The rest of a file's last page reads as zeros, without a fault.
	for _, p := range f.parts {
		if e := p.checkSize(); e != nil {
			return errors.WithSecondaryError(e, err)
		}
	}
	if err != nil && errors.Is(err, mmap.ErrFault) {
		return errors.WithSecondaryError(changed("%s: its disk failed, or it changed, while it was read", f.parts[0].path), err)
	}
	return err
}

// holds reports whether addr is in a view.
func (f *File) holds(addr uintptr) bool {
	return slices.ContainsFunc(f.parts, func(p *part) bool { return p.holds(addr) })
}

// Release tells the system that a tensor's view will not be read for a while,
// so that its pages leave the process' resident memory; a later read brings
// them back. Unknown names and files that are not mapped are ignored.
func (f *File) Release(name string) {
	i, ok := f.byName[name]
	if !ok {
		return
	}
	t := f.Tensors[i]
	p := f.parts[t.Part]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mapping != nil {
		p.mapping.Release(int(t.Offset), int(t.Offset+t.Size))
	}
}

// mapped returns the part's mapping; nil where there can be none.
func (p *part) mapped() (*mmap.Mapping, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, os.ErrClosed
	case p.file == nil || p.tried:
		return p.mapping, nil
	}
	if err := p.hasShrunk(); err != nil {
		return nil, err
	}
	p.tried = true
	m, err := mmap.Map(p.file, p.size)
	if err != nil { // read instead
		return nil, nil
	}
	p.mapping = m
	return m, nil
}

// checkSize returns an error if the part is mapped and has shrunk.
func (p *part) checkSize() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mapping == nil {
		return nil
	}
	return p.hasShrunk()
}

// hasShrunk returns an error if the part is shorter than when it was opened.
func (p *part) hasShrunk() error {
	st, err := p.file.Stat()
	if err != nil {
		return errors.Wrapf(err, "size of %s", p.path)
	}
	if st.Size() < p.size {
		return changed("%s changed while it was read: it has %d bytes, had %d when it was opened", p.path, st.Size(), p.size)
	}
	return nil
}

func (p *part) holds(addr uintptr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mapping != nil && p.mapping.Holds(addr)
}

func (p *part) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil
	}
	p.closed = true
	var err error
	if p.mapping != nil {
		err = p.mapping.Close()
		p.mapping = nil
	}
	return errors.CombineErrors(p.file.Close(), err)
}
