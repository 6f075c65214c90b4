package driver

import (
	"fmt"

	"github.com/cockroachdb/errors"
)

// Errors that say what a user can do. Those of calls are *Error too, with CUDA's
// own name.
var (
	ErrNoDriver      = errors.New("no CUDA driver")
	ErrDriverTooOld  = errors.New("the CUDA driver is too old")
	ErrNoDevice      = errors.New("no CUDA device")
	ErrNoNVRTC       = errors.New("no NVRTC library")
	ErrNoCuBLAS      = errors.New("no cuBLASLt library")
	ErrOutOfMemory   = errors.New("the device's memory is full")
	ErrDeviceLost    = errors.New("the device's context is lost")
	ErrCompile       = errors.New("the kernel does not compile")
	ErrNotSupported  = errors.New("not supported by the library on this device")
	ErrNotReady      = errors.New("the device has not finished")
	ErrInvalidKernel = errors.New("the kernel's image does not fit the device or the driver")
)

// Codes of CUresult (cuda.h) that are told apart.
const (
	codeOutOfMemory = 2
	codeStubLibrary = 34
	codeNoDevice    = 100
	codeNotReady    = 600
)

// Error is what a library answered.
type Error struct {
	Call string // such as cuMemAlloc_v2
	Code int    // its number
	Name string // such as CUDA_ERROR_INVALID_VALUE
	Text string // the library's own words, or ""
	kind error  // the sentinel that it is, or nil
}

func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("%s: %s", e.Call, e.Name)
	}
	return fmt.Sprintf("%s: %s (%s)", e.Call, e.Name, e.Text)
}

// Is reports whether target is the sentinel error that this answer means.
func (e *Error) Is(target error) bool { return e.kind != nil && target == e.kind }

// hints by sentinel.
var hints = map[error]string{
	ErrOutOfMemory:   "lower the batch or take a smaller model, or end other programs that use the device (nvidia-smi lists them)",
	ErrDeviceLost:    "start the program again; if it happens again, look for lines with Xid in the kernel's log (dmesg)",
	ErrNoDevice:      "look at nvidia-smi, and at the variable CUDA_VISIBLE_DEVICES, which hides devices",
	ErrInvalidKernel: "update the NVIDIA driver, or take an NVRTC library that is not newer than it",
}

// kindOf returns the sentinel of a CUresult. The codes from 700 on that are here
// leave a context that answers every later call with the same error (manual,
// CUresult: "the process must be terminated and relaunched").
func kindOf(code int) error {
	switch code {
	case codeOutOfMemory:
		return ErrOutOfMemory
	case codeNoDevice:
		return ErrNoDevice
	case codeNotReady:
		return ErrNotReady
	case 46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999:
		return ErrDeviceLost
	case 200, 209, 218, 222:
		return ErrInvalidKernel
	case 801:
		return ErrNotSupported
	}
	return nil
}

// check is the error of what a function of libcuda returned.
func (d *Driver) check(call string, result uintptr) error {
	if int32(result) == 0 {
		return nil
	}
	return d.fail(call, int(int32(result)))
}

func (d *Driver) fail(call string, code int) error {
	e := &Error{Call: call, Code: code, kind: kindOf(code)}
	e.Name = d.errorText(d.fn.GetErrorName, code)
	e.Text = d.errorText(d.fn.GetErrorString, code)
	if e.Name == "" {
		e.Name = fmt.Sprintf("CUDA error %d", code)
	}
	return hinted(e)
}

// hinted adds what a user can do.
func hinted(e *Error) error {
	if h := hints[e.kind]; h != "" {
		return errors.WithHint(e, h)
	}
	return e
}
