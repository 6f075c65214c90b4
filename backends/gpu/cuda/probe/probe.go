package probe

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/kernel"
)

// Report is what there is.
type Report struct {
	Driver   Part     `json:"driver"`
	Devices  []Device `json:"devices"`
	NVRTC    Part     `json:"nvrtc"`
	CuBLASLt Part     `json:"cublaslt"`
	Cache    string   `json:"cache"` // directory of compiled kernels, "" where there is none
	Ready    bool     `json:"ready"` // the backend can run
}

// Part is a library.
type Part struct {
	Version string `json:"version,omitempty"`
	Path    string `json:"path,omitempty"`
	Error   string `json:"error,omitempty"` // why it cannot be used, "" where it can
	Hint    string `json:"hint,omitempty"`  // what to do then
}

// Device is one that CUDA lists.
type Device struct {
	Ordinal         int    `json:"device"`
	Name            string `json:"name"`
	ID              string `json:"id"`
	Capability      string `json:"capability"`
	Multiprocessors int    `json:"multiprocessors"`
	Memory          int64  `json:"memory_bytes"`
	Free            int64  `json:"free_bytes"`
	Error           string `json:"error,omitempty"` // why it cannot be used
	Hint            string `json:"hint,omitempty"`
}

// Options say where to look.
type Options struct {
	Libraries string // a directory before all others, or ""
	Only      bool   // nowhere else
	Device    int    // whose libraries of matrices are tried
}

// leastCapability is that of the instructions that kernels use, mma of bf16 and
// cp.async (PTX ISA 7.0).
const leastCapability = 80

// Look opens everything once. Contexts of devices that it makes are given back.
func Look(o Options) Report {
	r := Report{CuBLASLt: Part{Error: "not looked for: it takes a device"}}
	if c := kernel.DefaultCache(); c != nil {
		r.Cache = c.Dir
	}
	search := driver.Search{Dir: o.Libraries, Only: o.Only}
	d, err := driver.Open(search)
	if err != nil {
		r.Driver = failed(err)
	} else {
		r.Driver = Part{Version: "CUDA " + version(d.Version()), Path: d.Path()}
		search.Version = d.Version()
	}
	r.NVRTC = lookNVRTC(search)
	if err != nil {
		return r
	}
	devices, err := d.Devices()
	if err == nil && len(devices) == 0 {
		err = errors.WithHint(driver.ErrNoDevice, "look at nvidia-smi, and at the variable CUDA_VISIBLE_DEVICES, which hides devices")
	}
	if err != nil {
		r.Driver.Error, r.Driver.Hint = words(err)
		return r
	}
	for _, v := range devices {
		dev, blas := lookDevice(d, v, search, v.Ordinal == o.Device)
		r.Devices = append(r.Devices, dev)
		if v.Ordinal == o.Device {
			r.CuBLASLt = blas
		}
	}
	r.Ready = r.NVRTC.Error == "" && o.Device >= 0 && o.Device < len(r.Devices) && r.Devices[o.Device].Error == ""
	return r
}

func lookNVRTC(s driver.Search) Part {
	n, err := driver.OpenNVRTC(s)
	if err != nil {
		return failed(err)
	}
	major, minor := n.Version()
	return Part{Version: fmt.Sprintf("%d.%d", major, minor), Path: n.Path()}
}

// lookDevice opens a device's context, and cuBLASLt in it if that is asked for.
func lookDevice(d *driver.Driver, v driver.Device, s driver.Search, blas bool) (dev Device, lib Part) {
	dev = Device{
		Ordinal: v.Ordinal, Name: v.Name, ID: v.ID(), Capability: fmt.Sprintf("%d.%d", v.Major, v.Minor),
		Multiprocessors: v.Multiprocessors, Memory: v.Memory,
	}
	if 10*v.Major+v.Minor < leastCapability {
		dev.Error, dev.Hint = "its compute capability is below 8.0", "use a device of the Ampere generation or later"
		return dev, lib
	}
	c, err := d.Retain(v)
	if err == nil {
		defer func() { _ = c.Release() }() // whether it can be used is known
		dev.Free, dev.Memory, err = c.Memory()
	}
	if err != nil {
		dev.Error, dev.Hint = words(err)
		return dev, lib
	}
	if !blas {
		return dev, lib
	}
	b, err := c.OpenCuBLAS(s)
	if err != nil {
		return dev, failed(err)
	}
	defer func() { _ = b.Destroy() }()
	return dev, Part{Version: blasVersion(b.Version())}
}

// version writes CUDA's number: 12040 is 12.4.
func version(n int) string { return fmt.Sprintf("%d.%d", n/1000, n%1000/10) }

// blasVersion writes cuBLASLt's number (cublasLtGetVersion: 10000 * major + 100 *
// minor + patch, and 1000 * major before 11).
func blasVersion(n int) string {
	if n < 100000 {
		return fmt.Sprintf("%d.%d.%d", n/1000, n/100%10, n%100)
	}
	return fmt.Sprintf("%d.%d.%d", n/10000, n/100%100, n%100)
}

func failed(err error) Part {
	text, hint := words(err)
	return Part{Error: text, Hint: hint}
}

func words(err error) (text, hint string) {
	return err.Error(), strings.Join(errors.GetAllHints(err), "; ")
}
