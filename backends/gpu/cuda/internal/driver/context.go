package driver

import (
	"runtime"
	"unsafe"

	"github.com/cockroachdb/errors"
)

// Context is the primary context of a device: the one that NVIDIA's libraries
// share. All memory, streams and modules belong to one.
type Context struct {
	d      *Driver
	device Device
	handle uintptr
	pool   uintptr // of the device, 0 where it has none
}

// Retain returns the device's primary context, made if there was none. Release
// gives it back.
func (d *Driver) Retain(v Device) (*Context, error) {
	c := &Context{d: d, device: v}
	if err := d.check("cuDevicePrimaryCtxRetain", call(d.fn.PrimaryCtxRetain, uintptr(unsafe.Pointer(&c.handle)), uintptr(v.handle))); err != nil {
		return nil, errors.Wrapf(err, "device %d, %s", v.Ordinal, v.Name)
	}
	if err := c.keepPool(); err != nil {
		return nil, errors.CombineErrors(err, c.Release())
	}
	return c, nil
}

// keepPool lets the device's memory pool keep what is freed, instead of giving
// it back to the system at the next synchronization.
func (c *Context) keepPool() error {
	if !c.device.Pools {
		return nil
	}
	const releaseThreshold = 4 // CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, a cuuint64_t
	if err := c.d.check("cuDeviceGetDefaultMemPool", call(c.d.fn.DefaultMemPool, uintptr(unsafe.Pointer(&c.pool)), uintptr(c.device.handle))); err != nil {
		return err
	}
	all := ^uint64(0)
	return c.d.check("cuMemPoolSetAttribute", call(c.d.fn.MemPoolSetAttribute, c.pool, releaseThreshold, uintptr(unsafe.Pointer(&all))))
}

// Release gives the context back. The last one that does destroys everything in
// it.
func (c *Context) Release() error {
	return c.d.check("cuDevicePrimaryCtxRelease", call(c.d.fn.PrimaryCtxRelease, uintptr(c.device.handle)))
}

// Device is the context's.
func (c *Context) Device() Device { return c.device }

// Driver is the context's.
func (c *Context) Driver() *Driver { return c.d }

// enter locks the goroutine to its thread and makes the context current there;
// leave must follow if it returns nil.
func (c *Context) enter() error {
	runtime.LockOSThread()
	if r := fast(c.d.fn.CtxSetCurrent, c.handle); int32(r) != 0 {
		runtime.UnlockOSThread()
		return c.d.fail("cuCtxSetCurrent", int(int32(r)))
	}
	return nil
}

func (c *Context) leave() { runtime.UnlockOSThread() }

// Do runs fn on one thread of the system, with the context current: for calls
// that must share a thread, such as a capture and what is captured.
func (c *Context) Do(fn func() error) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	return fn()
}

// Synchronize waits for everything that was given to the device.
func (c *Context) Synchronize() error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	return c.d.check("cuCtxSynchronize", call(c.d.fn.CtxSynchronize))
}
