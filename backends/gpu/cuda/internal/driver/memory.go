package driver

import (
	"unsafe"

	"github.com/cockroachdb/errors"
)

// Pointer is an address in a device's memory. It may be added to, and must not
// be read or written by the host.
type Pointer uintptr

// Memory returns the bytes of the device that are free, and all.
func (c *Context) Memory() (free, total int64, err error) {
	if err := c.enter(); err != nil {
		return 0, 0, err
	}
	defer c.leave()
	var f, t uint64
	err = c.d.check("cuMemGetInfo", call(c.d.fn.MemGetInfo, uintptr(unsafe.Pointer(&f)), uintptr(unsafe.Pointer(&t))))
	return int64(f), int64(t), err
}

// Alloc returns memory of the device, aligned to 256 bytes, with no particular
// contents. ErrOutOfMemory says how much was asked for and is free.
func (c *Context) Alloc(bytes int) (Pointer, error) {
	if err := c.enter(); err != nil {
		return 0, err
	}
	defer c.leave()
	var p Pointer
	if err := c.d.check("cuMemAlloc", call(c.d.fn.MemAlloc, uintptr(unsafe.Pointer(&p)), uintptr(bytes))); err != nil {
		return 0, c.explain(err, bytes)
	}
	return p, nil
}

// explain adds sizes to ErrOutOfMemory.
func (c *Context) explain(err error, bytes int) error {
	if !errors.Is(err, ErrOutOfMemory) {
		return errors.Wrapf(err, "%d bytes", bytes)
	}
	free, total, e := c.Memory()
	if e != nil {
		return errors.Wrapf(err, "%d bytes", bytes)
	}
	return errors.Wrapf(err, "%d bytes asked for, %d free of %d", bytes, free, total)
}

// Free gives memory of Alloc back, after waiting for what uses it.
func (c *Context) Free(p Pointer) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	return c.d.check("cuMemFree", call(c.d.fn.MemFree, uintptr(p)))
}

// Upload copies src to the device and waits for it.
func (c *Context) Upload(dst Pointer, src []byte) error {
	if len(src) == 0 {
		return nil
	}
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	if err := c.d.check("cuMemcpyHtoD", call(c.d.fn.MemcpyHtoD, uintptr(dst), uintptr(unsafe.Pointer(&src[0])), uintptr(len(src)))); err != nil {
		return err
	}
	// The call may return when src was copied to the driver's own memory (manual,
	// "API synchronization behavior"), and our streams do not wait for the default
	// stream, in which the rest goes on.
	return c.d.check("cuStreamSynchronize", call(c.d.fn.StreamSynchronize, 0))
}

// Download copies from the device to dst and waits for it. It does not wait for
// the work of a Stream that fills src: synchronize that before.
func (c *Context) Download(dst []byte, src Pointer) error {
	if len(dst) == 0 {
		return nil
	}
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	return c.d.check("cuMemcpyDtoH", call(c.d.fn.MemcpyDtoH, uintptr(unsafe.Pointer(&dst[0])), uintptr(src), uintptr(len(dst))))
}

// Trim gives unused memory of the device's pool back to the system, but for keep
// bytes.
func (c *Context) Trim(keep int) error {
	if c.pool == 0 {
		return nil
	}
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	return c.d.check("cuMemPoolTrimTo", call(c.d.fn.MemPoolTrimTo, c.pool, uintptr(keep)))
}

// Pinned is memory of the host that the device reads and writes by itself:
// the only kind that is copied without waiting, and within a graph.
type Pinned struct {
	c     *Context
	bytes []byte
}

// Pin returns pinned memory, with no particular contents.
func (c *Context) Pin(bytes int) (*Pinned, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	var p *byte
	if err := c.d.check("cuMemHostAlloc", call(c.d.fn.MemHostAlloc, uintptr(unsafe.Pointer(&p)), uintptr(bytes), 0)); err != nil {
		return nil, errors.Wrapf(err, "%d bytes of pinned memory", bytes)
	}
	return &Pinned{c, unsafe.Slice(p, bytes)}, nil
}

// Bytes is the memory itself. It must not be used after Free, and not be touched
// while a copy is under way.
func (p *Pinned) Bytes() []byte { return p.bytes }

// Free gives the memory back.
func (p *Pinned) Free() error {
	if p.bytes == nil {
		return nil
	}
	if err := p.c.enter(); err != nil {
		return err
	}
	defer p.c.leave()
	err := p.c.d.check("cuMemFreeHost", call(p.c.d.fn.MemFreeHost, uintptr(unsafe.Pointer(&p.bytes[0]))))
	p.bytes = nil
	return err
}

// at is the address of n bytes from off on.
func (p *Pinned) at(off, n int) (uintptr, error) {
	if off < 0 || n <= 0 || off > len(p.bytes)-n {
		return 0, errors.Newf("bytes %d to %d of %d bytes of pinned memory", off, off+n, len(p.bytes))
	}
	return uintptr(unsafe.Pointer(&p.bytes[off])), nil
}
