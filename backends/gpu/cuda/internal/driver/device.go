package driver

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"unsafe"

	"github.com/cockroachdb/errors"
)

// Attributes of a device (CUdevice_attribute).
const (
	attrMaxThreads     = 1
	attrShared         = 8
	attrWarp           = 10
	attrClock          = 13
	attrProcessors     = 16
	attrIntegrated     = 18
	attrMemoryClock    = 36
	attrBusWidth       = 37
	attrL2             = 38
	attrMajor          = 75
	attrMinor          = 76
	attrSharedOptIn    = 97
	attrPools          = 115
	maxDevices         = 1024
	maxDeviceNameBytes = 256
)

// Device is what there is to know of a device before it is used.
type Device struct {
	Ordinal         int
	Name            string
	UUID            [16]byte
	Major, Minor    int   // compute capability
	Multiprocessors int   // streaming multiprocessors
	Memory          int64 // bytes
	MaxThreads      int   // of a block
	Warp            int   // threads of a warp
	Shared          int   // bytes of shared memory of a block
	SharedOptIn     int   // the same for a kernel that asks by Function.SetDynamicShared
	L2              int   // bytes
	ClockKHz        int
	MemoryClockKHz  int
	BusBits         int  // of the memory
	Integrated      bool // shares the host's memory
	Pools           bool // has memory pools, for Stream.Alloc
	handle          int32
}

// ID is the UUID as nvidia-smi writes it.
func (d Device) ID() string {
	h := hex.EncodeToString(d.UUID[:])
	return fmt.Sprintf("GPU-%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}

// Devices lists the devices that this process may use. There is at least one:
// none is ErrNoDevice.
func (d *Driver) Devices() ([]Device, error) {
	var n int32
	if err := d.check("cuDeviceGetCount", call(d.fn.DeviceGetCount, uintptr(unsafe.Pointer(&n)))); err != nil {
		return nil, err
	}
	if n < 1 || n > maxDevices {
		return nil, errors.WithHint(errors.Wrapf(ErrNoDevice, "the driver counts %d", n), hints[ErrNoDevice])
	}
	all := make([]Device, n)
	for i := range all {
		if err := d.describe(i, &all[i]); err != nil {
			return nil, errors.Wrapf(err, "device %d", i)
		}
	}
	return all, nil
}

func (d *Driver) describe(ordinal int, v *Device) error {
	v.Ordinal = ordinal
	if err := d.check("cuDeviceGet", call(d.fn.DeviceGet, uintptr(unsafe.Pointer(&v.handle)), uintptr(ordinal))); err != nil {
		return err
	}
	h := uintptr(v.handle)
	var name [maxDeviceNameBytes]byte
	if err := d.check("cuDeviceGetName", call(d.fn.DeviceGetName, uintptr(unsafe.Pointer(&name)), maxDeviceNameBytes, h)); err != nil {
		return err
	}
	end := bytes.IndexByte(name[:], 0)
	if end < 0 {
		end = len(name)
	}
	v.Name = string(name[:end])
	if err := d.check("cuDeviceGetUuid", call(d.fn.DeviceGetUUID, uintptr(unsafe.Pointer(&v.UUID)), h)); err != nil {
		return err
	}
	if err := d.check("cuDeviceTotalMem", call(d.fn.DeviceTotalMem, uintptr(unsafe.Pointer(&v.Memory)), h)); err != nil {
		return err
	}
	return d.attributes(v)
}

func (d *Driver) attributes(v *Device) error {
	var integrated, pools int
	for _, a := range []struct {
		attribute int
		to        *int
	}{
		{attrMaxThreads, &v.MaxThreads},
		{attrShared, &v.Shared},
		{attrWarp, &v.Warp},
		{attrClock, &v.ClockKHz},
		{attrProcessors, &v.Multiprocessors},
		{attrIntegrated, &integrated},
		{attrMemoryClock, &v.MemoryClockKHz},
		{attrBusWidth, &v.BusBits},
		{attrL2, &v.L2},
		{attrMajor, &v.Major},
		{attrMinor, &v.Minor},
		{attrSharedOptIn, &v.SharedOptIn},
		{attrPools, &pools},
	} {
		var value int32
		r := call(d.fn.DeviceGetAttribute, uintptr(unsafe.Pointer(&value)), uintptr(a.attribute), uintptr(v.handle))
		if err := d.check("cuDeviceGetAttribute", r); err != nil {
			return errors.Wrapf(err, "attribute %d", a.attribute)
		}
		*a.to = int(value)
	}
	v.Integrated, v.Pools = integrated != 0, pools != 0
	return nil
}
