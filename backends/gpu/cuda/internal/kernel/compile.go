package kernel

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
)

// ErrArch is returned for a device that is older than all that NVRTC compiles
// for.
var ErrArch = errors.New("NVRTC does not compile for this device")

// PTX is code that comes with the program, by the name of the source that it was
// made of. The driver compiles it for the device.
type PTX interface {
	PTX(name string) (code []byte, ok bool)
}

// Image is code that a driver.Context loads.
type Image struct {
	Code   []byte // a cubin, or PTX
	Target string // "sm_90", or "compute_90" for PTX
	Log    string // the compiler's warnings, if it was compiled now
	Cached bool   // it was compiled before
}

// Compiler compiles for one device. It may be used by several goroutines.
type Compiler struct {
	nvrtc  *driver.NVRTC // nil where there is none
	none   error         // why
	ptx    PTX           // may be nil
	cache  *Cache        // may be nil
	target string
	single single
}

// Options say how a Compiler works.
type Options struct {
	NVRTC   *driver.NVRTC // nil: only PTX
	NoNVRTC error         // why it is nil, for the error of a kernel without PTX
	PTX     PTX           // for where there is no NVRTC; may be nil
	Cache   *Cache        // nil: none
	Major   int           // the device's compute capability
	Minor   int
}

// New returns a compiler. ErrArch is a device that NVRTC is too new for.
func New(o Options) (*Compiler, error) {
	c := &Compiler{nvrtc: o.NVRTC, none: o.NoNVRTC, ptx: o.PTX, cache: o.Cache}
	if c.nvrtc == nil {
		return c, nil
	}
	var err error
	c.target, err = Target(c.nvrtc.Archs(), o.Major, o.Minor)
	return c, err
}

// Target is the architecture that code is compiled for, of those that NVRTC
// knows: the device's own, and for a device that is newer than NVRTC the latest
// virtual one, whose PTX the driver compiles further.
func Target(archs []int, major, minor int) (string, error) {
	device := 10*major + minor
	if slices.Contains(archs, device) {
		return fmt.Sprintf("sm_%d", device), nil
	}
	best := 0
	for _, a := range archs {
		if a < device {
			best = max(best, a)
		}
	}
	if best == 0 {
		err := errors.Wrapf(ErrArch, "compute capability %d.%d, of %v", major, minor, archs)
		return "", errors.WithHint(err, "take an earlier NVRTC library: CUDA 12 is the last for some devices")
	}
	return fmt.Sprintf("compute_%d", best), nil
}

// Compiles reports whether there is NVRTC.
func (c *Compiler) Compiles() bool { return c.nvrtc != nil }

// Compile returns the code of a source, from the cache if it is there. Options
// are NVRTC's, without the architecture. Two goroutines that ask for the same
// code at a time get that of one compilation. Errors are driver.ErrCompile, and
// driver.ErrNoNVRTC where there is neither NVRTC nor PTX of the source's name.
func (c *Compiler) Compile(src driver.Source, options ...string) (Image, error) {
	if c.nvrtc == nil {
		return c.embedded(src.Name)
	}
	options = append(slices.Clone(options), "--gpu-architecture="+c.target)
	major, minor := c.nvrtc.Version()
	key := keyOf(fmt.Sprintf("%d.%d", major, minor), src, options)
	return c.single.do(key, func() (Image, error) {
		if code, ok := c.cache.get(key); ok {
			return Image{Code: code, Target: c.target, Cached: true}, nil
		}
		p, err := c.nvrtc.Compile(src, options...)
		if err != nil {
			return Image{}, errors.Wrapf(err, "compile %s for %s", src.Name, c.target)
		}
		c.cache.put(key, p.Code)
		return Image{Code: p.Code, Target: c.target, Log: p.Log}, nil
	})
}

func (c *Compiler) embedded(name string) (Image, error) {
	if c.ptx != nil {
		if code, ok := c.ptx.PTX(name); ok {
			return Image{Code: code, Target: "PTX of this program"}, nil
		}
	}
	why := c.none
	if why == nil {
		why = driver.ErrNoNVRTC
	}
	return Image{}, errors.Wrapf(why, "kernel source %s, of which this program has no PTX", name)
}

// Load compiles a source and loads it into ctx.
func (c *Compiler) Load(ctx *driver.Context, src driver.Source, options ...string) (*driver.Module, error) {
	image, err := c.Compile(src, options...)
	if err != nil {
		return nil, err
	}
	m, err := ctx.Load(image.Code)
	return m, errors.Wrapf(err, "load %s for %s", src.Name, image.Target)
}
