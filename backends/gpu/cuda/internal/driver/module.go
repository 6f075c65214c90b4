package driver

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"github.com/cockroachdb/errors"
)

// Module is loaded code.
type Module struct {
	c      *Context
	handle uintptr

	mu        sync.Mutex
	functions map[string]*Function
}

// Load loads a cubin, or PTX that the driver compiles for the device.
// ErrInvalidKernel is code that is neither, or not for this device or driver.
//
// The image is trusted: a cubin says itself how long it is, and the driver
// believes it.
func (c *Context) Load(image []byte) (*Module, error) {
	if len(image) == 0 {
		return nil, errors.Wrap(ErrInvalidKernel, "an empty image")
	}
	if image[len(image)-1] != 0 {
		image = append(image[:len(image):len(image)], 0) // PTX ends with a zero byte
	}
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	m := &Module{c: c, functions: map[string]*Function{}}
	r := call(c.d.fn.ModuleLoadData, uintptr(unsafe.Pointer(&m.handle)), uintptr(unsafe.Pointer(&image[0])))
	if err := c.d.check("cuModuleLoadData", r); err != nil {
		return nil, err
	}
	return m, nil
}

// Unload gives the module back. Its functions must not be used after.
func (m *Module) Unload() error {
	if err := m.c.enter(); err != nil {
		return err
	}
	defer m.c.leave()
	return m.c.d.check("cuModuleUnload", call(m.c.d.fn.ModuleUnload, m.handle))
}

// Function is a kernel.
type Function struct {
	c      *Context
	name   string
	handle uintptr

	mu      sync.Mutex
	dynamic int // bytes of dynamic shared memory that launches may ask for
}

// Function finds a kernel by its name in the module: that of the source, for one
// that is extern "C". Each has one Function, as CUDA has one handle for it, whose
// attributes all that launch it share.
func (m *Module) Function(name string) (*Function, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.functions[name]; f != nil {
		return f, nil
	}
	f, err := m.find(name)
	if err != nil {
		return nil, err
	}
	// Where modules are loaded lazily, asking for an attribute loads the kernel: not
	// later, when a launch of it is captured.
	if f.dynamic, err = f.Attribute(MaxDynamicShared); err != nil {
		return nil, errors.Wrapf(err, "kernel %q", name)
	}
	m.functions[name] = f
	return f, nil
}

func (m *Module) find(name string) (*Function, error) {
	if err := m.c.enter(); err != nil {
		return nil, err
	}
	defer m.c.leave()
	f := &Function{c: m.c, name: name}
	text := append([]byte(name), 0)
	r := call(m.c.d.fn.ModuleGetFunction, uintptr(unsafe.Pointer(&f.handle)), m.handle, uintptr(unsafe.Pointer(&text[0])))
	if err := m.c.d.check("cuModuleGetFunction", r); err != nil {
		return nil, errors.Wrapf(err, "kernel %q", name)
	}
	return f, nil
}

// Name is the kernel's.
func (f *Function) Name() string { return f.name }

// Attribute is what is known of a kernel (CUfunction_attribute).
type Attribute int

// Attributes of kernels.
const (
	MaxThreadsPerBlock Attribute = 0
	StaticSharedBytes  Attribute = 1
	LocalBytes         Attribute = 3 // of a thread, spilled registers among them
	Registers          Attribute = 4 // of a thread
	MaxDynamicShared   Attribute = 8
)

// Attribute returns the value of one.
func (f *Function) Attribute(a Attribute) (int, error) {
	if err := f.c.enter(); err != nil {
		return 0, err
	}
	defer f.c.leave()
	var v int32
	err := f.c.d.check("cuFuncGetAttribute", call(f.c.d.fn.FuncGetAttribute, uintptr(unsafe.Pointer(&v)), uintptr(a), f.handle))
	return int(v), err
}

// SetDynamicShared lets launches ask for as many bytes of dynamic shared memory:
// more than 48 KiB (Device.Shared) with what the kernel has of its own must be
// asked for so, up to Device.SharedOptIn. It never lets them ask for less than
// before: a launch that was prepared may run later.
func (f *Function) SetDynamicShared(bytes int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bytes <= f.dynamic {
		return nil
	}
	if err := f.c.enter(); err != nil {
		return err
	}
	defer f.c.leave()
	r := call(f.c.d.fn.FuncSetAttribute, f.handle, uintptr(MaxDynamicShared), uintptr(bytes))
	if err := f.c.d.check("cuFuncSetAttribute", r); err != nil {
		return errors.Wrapf(err, "kernel %s, %d bytes of shared memory", f.name, bytes)
	}
	f.dynamic = bytes
	return nil
}

// Dim is the size of a grid or a block. A zero is a one.
type Dim struct{ X, Y, Z int }

// Launch is a kernel with its sizes and arguments, made once and run often: Run
// allocates nothing.
type Launch struct {
	f           *Function
	Grid, Block Dim
	Shared      int // bytes of dynamic shared memory
	values      []uint64
	params      []unsafe.Pointer // to values: what cuLaunchKernel calls kernelParams
}

// Launch prepares a launch. Arguments are Pointer, int32, uint32, int64, uint64,
// float32 or float64, and must be those of the kernel's signature: the driver
// does not check them.
func (f *Function) Launch(grid, block Dim, args ...any) *Launch {
	l := &Launch{f: f, Grid: grid, Block: block, values: make([]uint64, len(args)), params: make([]unsafe.Pointer, len(args))}
	for i, a := range args {
		l.params[i] = unsafe.Pointer(&l.values[i])
		l.Set(i, a)
	}
	return l
}

// Set changes an argument, which must be of one of the types of Function.Launch:
// another one is a mistake of the program and panics. A launch that was captured
// keeps what it was captured with.
func (l *Launch) Set(i int, arg any) {
	p := l.params[i]
	switch v := arg.(type) {
	case Pointer:
		*(*Pointer)(p) = v
	case int32:
		*(*int32)(p) = v
	case uint32:
		*(*uint32)(p) = v
	case int64:
		*(*int64)(p) = v
	case uint64:
		*(*uint64)(p) = v
	case float32:
		*(*float32)(p) = v
	case float64:
		*(*float64)(p) = v
	default:
		panic(fmt.Sprintf("driver: argument %d of kernel %s is a %T", i, l.f.name, arg))
	}
}

// Run gives the launch to the stream. Arguments are copied before it returns.
func (l *Launch) Run(s *Stream) error {
	c := s.c
	if err := c.enter(); err != nil {
		return err
	}
	var params uintptr
	if len(l.params) > 0 {
		params = uintptr(unsafe.Pointer(&l.params[0]))
	}
	g, b := l.Grid, l.Block
	r := fast(c.d.fn.LaunchKernel, l.f.handle,
		uintptr(max(g.X, 1)), uintptr(max(g.Y, 1)), uintptr(max(g.Z, 1)),
		uintptr(max(b.X, 1)), uintptr(max(b.Y, 1)), uintptr(max(b.Z, 1)),
		uintptr(l.Shared), s.handle, params, 0)
	c.leave()
	runtime.KeepAlive(l)
	if int32(r) == 0 {
		return nil
	}
	return errors.Wrapf(c.d.fail("cuLaunchKernel", int(int32(r))), "kernel %s, grid %v, block %v, %d bytes of shared memory",
		l.f.name, g, b, l.Shared)
}
