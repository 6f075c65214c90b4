package driver

import (
	"unsafe"

	"github.com/cockroachdb/errors"
)

// MinVersion is the earliest driver that is taken, in CUDA's numbering:
// 1000 * major + 10 * minor.
const MinVersion = 12000

// tooOld is the hint of ErrDriverTooOld. Which driver came with which CUDA is
// table 3 of the CUDA toolkit's release notes.
const tooOld = "update NVIDIA's driver to 525.60 (Linux) or 527.41 (Windows), or later"

// Driver is libcuda, opened and initialized. It is never closed: a process keeps
// it until it ends.
type Driver struct {
	fn      functions
	path    string
	version int
}

// Open loads libcuda and initializes it. Errors are ErrNoDriver, ErrDriverTooOld
// and ErrNoDevice, with what was tried and what to do.
func Open(s Search) (*Driver, error) {
	handle, path, err := libcuda.open(s)
	if err != nil {
		return nil, err
	}
	d := &Driver{path: path}
	var version versionFunction
	if missing := resolve(handle, &version); missing != "" {
		return nil, errors.WithHint(errors.Wrapf(ErrNoDriver, "%s has no function %s", path, missing), libcuda.hint)
	}
	var v int32
	if r := call(version.DriverGetVersion, uintptr(unsafe.Pointer(&v))); int32(r) != 0 {
		return nil, errors.WithHint(errors.Wrapf(ErrNoDriver, "%s: cuDriverGetVersion answers %d", path, int32(r)), libcuda.hint)
	}
	if d.version = int(v); d.version < MinVersion {
		err := errors.Wrapf(ErrDriverTooOld, "%s is for CUDA %d.%d, %d.%d is the least", path,
			v/1000, v%1000/10, MinVersion/1000, MinVersion%1000/10)
		return nil, errors.WithHint(err, tooOld)
	}
	if missing := resolve(handle, &d.fn); missing != "" {
		return nil, errors.WithHint(errors.Wrapf(ErrDriverTooOld, "%s has no function %s", path, missing), tooOld)
	}
	return d, d.init()
}

func (d *Driver) init() error {
	r := call(d.fn.Init, 0)
	err := d.check("cuInit", r)
	switch {
	case err == nil:
		return nil
	case int32(r) == codeNoDevice:
		return err
	case int32(r) == codeStubLibrary:
		err := errors.Wrapf(ErrNoDriver, "%s is the toolkit's stand-in for linking", d.path)
		return errors.WithHint(err, libcuda.hint)
	}
	return errors.WithHint(errors.Wrapf(ErrNoDriver, "%v", err), "look at nvidia-smi: the driver is there and does not start")
}

// Version is the CUDA version that the driver is for: 1000 * major + 10 * minor.
func (d *Driver) Version() int { return d.version }

// Path is the file, or the name that the system's loader knew.
func (d *Driver) Path() string { return d.path }

// errorText asks for the name or the words of an error; "" if there are none.
func (d *Driver) errorText(fn uintptr, code int) string {
	var p *byte
	if r := call(fn, uintptr(code), uintptr(unsafe.Pointer(&p))); int32(r) != 0 {
		return ""
	}
	return cString(p)
}

// maxCString bounds strings of the libraries.
const maxCString = 4096

// cString copies a string that a library owns.
func cString(p *byte) string {
	if p == nil {
		return ""
	}
	n := 0
	for n < maxCString && *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(p, n))
}
