package driver

import (
	"errors"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
)

// rig is a fake device, its libraries, and a stream.
type rig struct {
	dir    string
	d      *Driver
	n      *NVRTC
	c      *Context
	s      *Stream
	search Search
}

func newRig(t *testing.T, settings ...string) *rig {
	t.Helper()
	return openRig(t, fake.Build(t, fake.Options{Settings: settings}))
}

func openRig(t *testing.T, dir string) *rig {
	t.Helper()
	r := &rig{dir: dir, search: Search{Dir: dir, Only: true}}
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
	p, err := r.n.Compile(Source{Name: "test.cu", Code: code}, "--gpu-architecture=sm_90")
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
