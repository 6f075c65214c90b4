// Package mmap maps files into memory for reading, and turns reads of what is
// no longer there into errors.
//
// A mapped file that shrinks leaves pages without content: reading them is a
// bus error, which ends the process unless it happens inside Guard.
package mmap

import (
	"os"
	"runtime/debug"
	"unsafe"

	"github.com/cockroachdb/errors"
)

var (
	// ErrUnsupported is returned by Map where the system, the file system or the
	// size of addresses does not allow a mapping.
	ErrUnsupported = errors.New("file cannot be mapped")
	// ErrFault is returned by Guard: mapped bytes were no longer there.
	ErrFault = errors.New("file shrank or failed while it was read")
)

// Mapping is the content of a file, mapped read-only. It is safe for
// concurrent use until Close.
type Mapping struct{ data []byte }

// Map maps the first size bytes of f, which may be closed afterwards. Errors
// are ErrUnsupported.
func Map(f *os.File, size int64) (*Mapping, error) {
	if size < 0 || int64(int(size)) != size {
		return nil, errors.Wrapf(ErrUnsupported, "%d bytes", size)
	}
	if size == 0 { // what systems refuse to map
		return &Mapping{}, nil
	}
	data, err := mapFile(f, int(size))
	if err != nil {
		return nil, errors.Wrapf(errors.Mark(err, ErrUnsupported), "map %d bytes", size)
	}
	return &Mapping{data}, nil
}

// Bytes returns the content. Reads outside Guard may end the process if the
// file shrinks; writes, and any use after Close, always do.
func (m *Mapping) Bytes() []byte { return m.data }

// Holds reports whether addr lies in the mapping.
func (m *Mapping) Holds(addr uintptr) bool {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(m.data)))
	return addr >= start && addr-start < uintptr(len(m.data))
}

// Release tells the system that the whole pages inside Bytes()[from:to] are not
// needed for now: they leave the process' resident memory, and a later read
// brings them back. It is advice, and ignored where the system knows none.
func (m *Mapping) Release(from, to int) {
	page := os.Getpagesize()
	from, to = (max(from, 0)+page-1)/page*page, min(to, len(m.data))/page*page
	if from < to {
		release(m.data[from:to])
	}
}

// Close removes the mapping.
func (m *Mapping) Close() error {
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	return errors.Wrap(unmap(data), "unmap")
}

// Guard calls fn, in which mapped memory is read, and returns its error; or
// ErrFault if fn met a page without content at an address that owns reports as
// mapped. Faults elsewhere stay what they are. It covers fn's own goroutine
// only. It does not allocate.
func Guard(owns func(addr uintptr) bool, fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		fault, ok := r.(interface{ Addr() uintptr })
		if !ok || !owns(fault.Addr()) {
			panic(r)
		}
		err = ErrFault
	}()
	if err = fn(); err != nil && isFault(err) {
		return errors.Mark(err, ErrFault)
	}
	return err
}
