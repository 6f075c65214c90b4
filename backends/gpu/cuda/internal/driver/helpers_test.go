package driver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
)

// rig is a device, its libraries, and a stream.
type rig struct {
	dir    string
	d      *Driver
	n      *NVRTC
	c      *Context
	s      *Stream
	search Search
	arch   string // the compiler's option
}

// newRig opens the fake device with these settings, or a real one (fake.Real) if
// they ask for nothing but an order.
func newRig(t *testing.T, settings ...string) *rig {
	t.Helper()
	onlyFake := func(s string) bool { return !strings.HasPrefix(s, "order=") }
	if fake.Real() && !slices.ContainsFunc(settings, onlyFake) {
		return openRig(t, Search{Dir: fake.RealLibraries()})
	}
	return openRig(t, Search{Dir: fake.Build(t, fake.Options{Settings: settings}), Only: true})
}

// newFake opens the fake device, for what is not the same on a real one.
func newFake(t *testing.T, settings ...string) *rig {
	t.Helper()
	return openRig(t, Search{Dir: fake.Build(t, fake.Options{Settings: settings}), Only: true})
}

func openRig(t *testing.T, search Search) *rig {
	t.Helper()
	r := &rig{dir: search.Dir, search: search}
	var err error
	if r.d, err = Open(r.search); err != nil {
		t.Fatal(err)
	}
	if r.n, err = OpenNVRTC(r.search); err != nil {
		t.Fatal(err)
	}
	devices, err := r.d.Devices()
	if err != nil {
		t.Fatal(err)
	}
	r.arch = fmt.Sprintf("--gpu-architecture=sm_%d%d", devices[0].Major, devices[0].Minor)
	if r.c, err = r.d.Retain(devices[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.c.Release() })
	if r.s, err = r.c.NewStream(); err != nil {
		t.Fatal(err)
	}
	return r
}

// kernel compiles and loads a source, and finds its kernel k.
func (r *rig) kernel(t *testing.T, code string) *Function {
	t.Helper()
	p, err := r.n.Compile(Source{Name: "test.cu", Code: code}, r.arch)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.c.Load(p.Code)
	if err != nil {
		t.Fatal(err)
	}
	f, err := m.Function("k")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (r *rig) alloc(t *testing.T, bytes int) Pointer {
	t.Helper()
	p, err := r.c.Alloc(bytes)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (r *rig) floats(t *testing.T, v ...float32) Pointer {
	t.Helper()
	p := r.alloc(t, 4*len(v))
	if err := r.c.Upload(p, bytesOf(v)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (r *rig) read(t *testing.T, p Pointer, n int) []float32 {
	t.Helper()
	must(t, r.s.Synchronize())
	v := make([]float32, n)
	if err := r.c.Download(bytesOf(v), p); err != nil {
		t.Fatal(err)
	}
	return v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// named fails unless err is CUDA's error of that name.
func named(t *testing.T, err error, name string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Name != name {
		t.Fatalf("got %v, want %s", err, name)
	}
}
