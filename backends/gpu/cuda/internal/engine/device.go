package engine

import (
	"runtime"
	"sync"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/kernel"
)

// Device is an open device: its context, the compiler of its kernels, and
// cuBLASLt. It may be used by several goroutines.
type Device struct {
	Precision Precision

	context  *driver.Context
	compiler *kernel.Compiler
	blas     *driver.CuBLAS

	mu      sync.Mutex
	modules map[string]*loading // by name and code
	ran     map[driver.MatmulSpec]bool
	closed  bool
}

// loading is a module that is loaded once, by whoever asks first.
type loading struct {
	once   sync.Once
	module *driver.Module
	err    error
}

// NewDevice makes a Device of its parts, which it closes.
func NewDevice(c *driver.Context, k *kernel.Compiler, blas *driver.CuBLAS, p Precision) *Device {
	return &Device{Precision: p, context: c, compiler: k, blas: blas, modules: map[string]*loading{}, ran: map[driver.MatmulSpec]bool{}}
}

// Info is the device's description.
func (d *Device) Info() driver.Device { return d.context.Device() }

// HasBLAS reports whether there is cuBLASLt.
func (d *Device) HasBLAS() bool { return d.blas != nil }

// Compiles reports whether there is NVRTC, beside PTX that was compiled before.
func (d *Device) Compiles() bool { return d.compiler.Compiles() }

// Context is the device's.
func (d *Device) Context() *driver.Context { return d.context }

// module returns the loaded code of src.
func (d *Device) module(src driver.Source) (*driver.Module, error) {
	key := src.Name + "\x00" + src.Code
	d.mu.Lock()
	l := d.modules[key]
	if l == nil {
		l = &loading{}
		d.modules[key] = l
	}
	d.mu.Unlock()
	l.once.Do(func() { l.module, l.err = d.compiler.Load(d.context, src, options...) })
	return l.module, l.err
}

// first reports whether no product like this has been run, and takes it as run.
func (d *Device) first(s driver.MatmulSpec) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ran[s] {
		return false
	}
	d.ran[s] = true
	return true
}

// options are NVRTC's for every source. Fast functions are called by name where
// their error is known to be harmless, never by a switch; multiply-adds fuse.
var options = []string{"--std=c++17"}

// Function returns a kernel of a source, which is compiled the first time.
func (d *Device) Function(src driver.Source, name string) (*driver.Function, error) {
	m, err := d.module(src)
	if err != nil {
		return nil, err
	}
	return m.Function(name)
}

// Warm compiles and loads sources side by side, so that a later Function does
// not wait for one after another. Errors are those of Function.
func (d *Device) Warm(sources []driver.Source) {
	var group sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU())
	for _, src := range sources {
		group.Add(1)
		slots <- struct{}{}
		go func() {
			defer group.Done()
			_, _ = d.module(src)
			<-slots
		}()
	}
	group.Wait()
}

// Close gives the device back; a second call does nothing.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	var err error
	for _, l := range d.modules {
		if l.module != nil {
			err = errors.CombineErrors(err, l.module.Unload())
		}
	}
	d.modules = map[string]*loading{}
	if d.blas != nil {
		err = errors.CombineErrors(err, d.blas.Destroy())
	}
	return errors.CombineErrors(err, d.context.Release())
}

// Precision is in what a device computes.
type Precision string

// Precisions. In bf16, values between kernels are stored as bf16 and products
// of matrices multiply bf16 and add in f32; parameters, their gradients and
// moments, losses and everything small stay f32. In f32 everything is.
const (
	F32  Precision = "f32"
	BF16 Precision = "bf16"
)
