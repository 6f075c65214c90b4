package driver

import (
	"time"
	"unsafe"
)

// Stream is a queue of work for the device: what is given to one runs in order,
// after the call has returned. An error of a kernel is that of a later call.
type Stream struct {
	c      *Context
	handle uintptr
}

// NewStream returns a stream that does not wait for the default stream.
func (c *Context) NewStream() (*Stream, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	const nonBlocking = 1
	s := &Stream{c: c}
	if err := c.d.check("cuStreamCreate", call(c.d.fn.StreamCreate, uintptr(unsafe.Pointer(&s.handle)), nonBlocking)); err != nil {
		return nil, err
	}
	return s, nil
}

// Context is the stream's.
func (s *Stream) Context() *Context { return s.c }

// on calls fn on a thread where the stream's context is current. No argument may
// be an address in Go's memory.
func (s *Stream) on(name string, fn uintptr, args ...uintptr) error {
	if err := s.c.enter(); err != nil {
		return err
	}
	r := fast(fn, args...)
	s.c.leave()
	return s.c.d.check(name, r)
}

// ask is on for calls that write to Go's memory: a pointer that is converted in
// its arguments stays where it is until the call returns.
//
//go:uintptrescapes
func (s *Stream) ask(name string, fn uintptr, args ...uintptr) error {
	return s.on(name, fn, args...)
}

// Destroy ends the stream when its work is done.
func (s *Stream) Destroy() error {
	return s.on("cuStreamDestroy", s.c.d.fn.StreamDestroy, s.handle)
}

// Synchronize waits until all that was given to the stream has run.
func (s *Stream) Synchronize() error {
	return s.on("cuStreamSynchronize", s.c.d.fn.StreamSynchronize, s.handle)
}

// Query returns nil if all that was given to the stream has run, ErrNotReady if
// not.
func (s *Stream) Query() error {
	return s.on("cuStreamQuery", s.c.d.fn.StreamQuery, s.handle)
}

// Alloc takes memory from the device's pool, in the order of the stream.
func (s *Stream) Alloc(bytes int) (Pointer, error) {
	var p Pointer
	if err := s.ask("cuMemAllocAsync", s.c.d.fn.MemAllocAsync, uintptr(unsafe.Pointer(&p)), uintptr(bytes), s.handle); err != nil {
		return 0, s.c.explain(err, bytes)
	}
	return p, nil
}

// Free gives memory of a stream's Alloc back to the pool, in the order of the
// stream.
func (s *Stream) Free(p Pointer) error {
	return s.on("cuMemFreeAsync", s.c.d.fn.MemFreeAsync, uintptr(p), s.handle)
}

// Upload copies n bytes of src, from off on, to the device.
func (s *Stream) Upload(dst Pointer, src *Pinned, off, n int) error {
	from, err := src.at(off, n)
	if err != nil {
		return err
	}
	return s.on("cuMemcpyHtoDAsync", s.c.d.fn.MemcpyHtoDAsync, uintptr(dst), from, uintptr(n), s.handle)
}

// Download copies n bytes from the device to dst, from off on.
func (s *Stream) Download(dst *Pinned, off, n int, src Pointer) error {
	to, err := dst.at(off, n)
	if err != nil {
		return err
	}
	return s.on("cuMemcpyDtoHAsync", s.c.d.fn.MemcpyDtoHAsync, to, uintptr(src), uintptr(n), s.handle)
}

// Copy copies bytes within the device. The two must not overlap.
func (s *Stream) Copy(dst, src Pointer, bytes int) error {
	if bytes == 0 {
		return nil
	}
	return s.on("cuMemcpyDtoDAsync", s.c.d.fn.MemcpyDtoDAsync, uintptr(dst), uintptr(src), uintptr(bytes), s.handle)
}

// Fill sets bytes to value.
func (s *Stream) Fill(dst Pointer, value byte, bytes int) error {
	if bytes == 0 {
		return nil
	}
	return s.on("cuMemsetD8Async", s.c.d.fn.MemsetD8Async, uintptr(dst), uintptr(value), uintptr(bytes), s.handle)
}

// Fill32 sets n words of 32 bits to value.
func (s *Stream) Fill32(dst Pointer, value uint32, n int) error {
	if n == 0 {
		return nil
	}
	return s.on("cuMemsetD32Async", s.c.d.fn.MemsetD32Async, uintptr(dst), uintptr(value), uintptr(n), s.handle)
}

// Event is a point in a stream.
type Event struct {
	c      *Context
	handle uintptr
}

// NewEvent returns an event that takes the time when it is reached.
func (c *Context) NewEvent() (*Event, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	e := &Event{c: c}
	if err := c.d.check("cuEventCreate", call(c.d.fn.EventCreate, uintptr(unsafe.Pointer(&e.handle)), 0)); err != nil {
		return nil, err
	}
	return e, nil
}

// Record puts the event behind what was given to the stream so far.
func (e *Event) Record(s *Stream) error {
	return s.on("cuEventRecord", s.c.d.fn.EventRecord, e.handle, s.handle)
}

// Wait makes the stream wait for the event.
func (s *Stream) Wait(e *Event) error {
	return s.on("cuStreamWaitEvent", s.c.d.fn.StreamWaitEvent, s.handle, e.handle, 0)
}

// Query returns nil if the event was reached, ErrNotReady if not.
func (e *Event) Query() error {
	return (&Stream{c: e.c}).on("cuEventQuery", e.c.d.fn.EventQuery, e.handle)
}

// Synchronize waits for the event.
func (e *Event) Synchronize() error {
	return (&Stream{c: e.c}).on("cuEventSynchronize", e.c.d.fn.EventSynchronize, e.handle)
}

// Since returns the time on the device from the event before to this one, to
// about half a microsecond.
func (e *Event) Since(before *Event) (time.Duration, error) {
	var ms float32
	err := (&Stream{c: e.c}).ask("cuEventElapsedTime", e.c.d.fn.EventElapsedTime, uintptr(unsafe.Pointer(&ms)), before.handle, e.handle)
	return time.Duration(float64(ms) * float64(time.Millisecond)), err
}

// Destroy gives the event back.
func (e *Event) Destroy() error {
	return (&Stream{c: e.c}).on("cuEventDestroy", e.c.d.fn.EventDestroy, e.handle)
}
