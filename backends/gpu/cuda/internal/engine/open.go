package engine

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/kernel"
)

// DeviceOptions say which device is opened, and how.
type DeviceOptions struct {
	Ordinal   int // of the devices that CUDA lists
	Precision Precision
	Libraries driver.Search // where libcuda, NVRTC and cuBLASLt are looked for
	Cache     *kernel.Cache // of compiled kernels; nil: none
	PTX       kernel.PTX    // for where there is no NVRTC; may be nil
}

// minCapability is the least compute capability: that of the tensor core
// instructions and asynchronous copies that kernels use.
const minCapability = 80

// ErrDevice is returned for a device that there is not, or that is too old.
var ErrDevice = errors.New("the device cannot be used")

// OpenDevice opens a device. Errors are ErrDevice and those of package driver,
// with what is missing and what to do. Without NVRTC there is only the PTX that
// comes with the program, without cuBLASLt the slower products of its own.
func OpenDevice(o DeviceOptions) (*Device, error) {
	d, err := driver.Open(o.Libraries)
	if err != nil {
		return nil, err
	}
	devices, err := d.Devices()
	if err != nil {
		return nil, err
	}
	if o.Ordinal < 0 || o.Ordinal >= len(devices) {
		return nil, errors.WithHintf(errors.Wrapf(ErrDevice, "device %d of %d", o.Ordinal, len(devices)),
			"give 0 to %d; CUDA_VISIBLE_DEVICES says which there are", len(devices)-1)
	}
	v := devices[o.Ordinal]
	if v.Major*10+v.Minor < minCapability {
		return nil, errors.WithHint(errors.Wrapf(ErrDevice, "%s has compute capability %d.%d, 8.0 is needed", v.Name, v.Major, v.Minor),
			"use a device of the Ampere generation or later, or --backend avx2")
	}
	o.Libraries.Version = d.Version()
	nvrtc, missing := driver.OpenNVRTC(o.Libraries)
	if missing != nil && o.PTX == nil {
		return nil, missing
	}
	compiler, err := kernel.New(kernel.Options{
		NVRTC: nvrtc, NoNVRTC: missing, PTX: o.PTX, Cache: o.Cache, Major: v.Major, Minor: v.Minor,
	})
	if err != nil {
		return nil, err
	}
	c, err := d.Retain(v)
	if err != nil {
		return nil, errors.Wrapf(err, "open device %d, %s", o.Ordinal, v.Name)
	}
	blas, err := c.OpenCuBLAS(o.Libraries)
	if err != nil && !errors.Is(err, driver.ErrNoCuBLAS) {
		return nil, errors.CombineErrors(err, c.Release())
	}
	return NewDevice(c, compiler, blas, o.Precision), nil
}
