// Package arena is the memory that a host and a plugin share for tensors.
//
// An arena is one anonymous file of fixed size, sparse, that both map. The host
// makes it, hands it out in spans and has the plugin inherit the file; calls
// between them then name a span by offset and length. Its size is sealed, so
// neither side can take pages from under the other.
package arena

import (
	"bytes"
	"crypto/rand"
	"os"
	"sync"

	"github.com/cockroachdb/errors"
)

var (
	// ErrUnsupported is returned where the system has no such memory, or a file is
	// not an arena.
	ErrUnsupported = errors.New("no shared memory")
	// ErrFull is returned when no free span is as long as one is asked for.
	ErrFull = errors.New("shared memory is full")
	// ErrRange is returned for a span that does not lie in the arena.
	ErrRange = errors.New("span is outside the shared memory")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("shared memory is closed")
)

const (
	// Align is what offsets of spans are multiples of, in bytes.
	Align = 64
	// NonceLen is the length of the number at the arena's start, in bytes.
	NonceLen = 16
	// header is the part of the arena that is never handed out.
	header = 4096
	// warm is how much of the arena, from its start, keeps its pages when a span
	// is freed: first fit uses them again, and a page is dear to fault in.
	warm = 256 << 20
)

// Span is a piece of an arena, in bytes.
type Span struct{ Offset, Length uint64 }

func (s Span) end() uint64 { return s.Offset + s.Length }

// Arena is mapped shared memory. It is safe for concurrent use.
type Arena struct {
	file  *os.File // nil in the plugin
	data  []byte
	mu    sync.Mutex
	free  []Span // sorted, apart from one another
	spans int    // handed out
	done  bool
}

// New makes an arena of the first of sizes that the system allows, 64 GiB and
// less by default, and writes a random nonce at its start.
func New(sizes ...uint64) (*Arena, error) {
	if len(sizes) == 0 {
		sizes = []uint64{64 << 30, 16 << 30, 4 << 30, 1 << 30}
	}
	first := errors.Wrap(ErrUnsupported, "no size")
	for i, n := range sizes {
		if n <= header {
			return nil, errors.Wrapf(ErrRange, "an arena of %d bytes", n)
		}
		file, data, err := create(n)
		if err == nil {
			a := &Arena{file: file, data: data, free: []Span{{header, n - header}}}
			_, _ = rand.Read(data[:NonceLen]) // it never fails
			return a, nil
		}
		if i == 0 {
			first = err
		}
	}
	return nil, first
}

// Inherit maps the arena of size bytes behind an open file descriptor, as a
// plugin does. The error is ErrUnsupported if it is none.
func Inherit(fd uintptr, size uint64) (*Arena, error) {
	if size <= header {
		return nil, errors.Wrapf(ErrUnsupported, "%d bytes", size)
	}
	data, err := inherit(fd, size)
	if err != nil {
		return nil, err
	}
	return &Arena{data: data}, nil
}

// File is what a plugin inherits, nil in the plugin.
func (a *Arena) File() *os.File { return a.file }

// Size is the length of the arena in bytes.
func (a *Arena) Size() uint64 { return uint64(len(a.data)) }

// Nonce returns a copy of the number at the arena's start. Both sides have the
// same memory if they read the same one.
func (a *Arena) Nonce() []byte { return bytes.Clone(a.data[:NonceLen]) }

// Bytes returns the memory of s, which the other side may change at any time.
// It refuses a span that is not aligned or does not lie in the arena.
func (a *Arena) Bytes(s Span) ([]byte, error) {
	n := uint64(len(a.data))
	if s.Offset%Align != 0 || s.Offset < header || s.Offset > n || s.Length > n-s.Offset {
		return nil, errors.Wrapf(ErrRange, "%d bytes at %d of %d", s.Length, s.Offset, n)
	}
	return a.data[s.Offset:s.end():s.end()], nil
}

// Alloc hands out a span of n bytes, rounded up to Align, whose content is
// whatever it was. It keeps the arena mapped until it is freed.
func (a *Arena) Alloc(n uint64) (Span, error) {
	if n > uint64(len(a.data)) {
		return Span{}, errors.Wrapf(ErrFull, "%d bytes of %d", n, len(a.data))
	}
	n = max(Align, (n+Align-1)/Align*Align)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return Span{}, ErrClosed
	}
	for i, f := range a.free {
		if f.Length < n {
			continue
		}
		a.spans++
		if f.Length == n {
			a.free = append(a.free[:i], a.free[i+1:]...)
		} else {
			a.free[i] = Span{f.Offset + n, f.Length - n}
		}
		return Span{f.Offset, n}, nil
	}
	return Span{}, errors.Wrapf(ErrFull, "%d bytes of %d", n, len(a.data))
}

// Free takes back a span of Alloc.
func (a *Arena) Free(s Span) {
	if s.Length == 0 {
		return
	}
	if s.end() > warm && s.end() <= uint64(len(a.data)) {
		release(a.data, max(s.Offset, warm), s.end())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i := 0
	for i < len(a.free) && a.free[i].Offset < s.Offset {
		i++
	}
	joinsLeft := i > 0 && a.free[i-1].end() == s.Offset
	joinsRight := i < len(a.free) && s.end() == a.free[i].Offset
	switch {
	case joinsLeft && joinsRight:
		a.free[i-1].Length += s.Length + a.free[i].Length
		a.free = append(a.free[:i], a.free[i+1:]...)
	case joinsLeft:
		a.free[i-1].Length += s.Length
	case joinsRight:
		a.free[i] = Span{s.Offset, s.Length + a.free[i].Length}
	default:
		a.free = append(a.free, Span{})
		copy(a.free[i+1:], a.free[i:])
		a.free[i] = s
	}
	a.spans--
	a.unmap()
}

// Close has the arena be unmapped once all spans are freed.
func (a *Arena) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return nil
	}
	a.done = true
	a.unmap()
	if a.file == nil {
		return nil
	}
	return errors.Wrap(a.file.Close(), "close shared memory")
}

// unmap gives the memory back when nobody uses it any more.
func (a *Arena) unmap() {
	if a.done && a.spans <= 0 && a.data != nil {
		discard(a.data)
		a.data = nil
	}
}
