// Package cudatest opens a device for tests: the fake one, or with TERN_CUDA=real
// in the environment the machine's own.
package cudatest

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/kernel"
)

// TB is what is needed of a testing.TB.
type TB interface {
	fake.TB
	Cleanup(func())
	Error(args ...any)
}

// Real reports whether tests run on the machine's own device. What only a fake
// can do, such as being lost at the third launch, is then left out.
func Real() bool { return fake.Real() }

// Libraries says where the libraries are. The settings are those of
// fake.Options, and mean nothing to a real device.
func Libraries(t TB, settings ...string) driver.Search {
	t.Helper()
	if Real() {
		return driver.Search{Dir: fake.RealLibraries()}
	}
	return driver.Search{Dir: fake.Build(t, fake.Options{Settings: settings}), Only: true}
}

// Cache keeps compiled kernels from one test to the next: those of the fake apart
// from those of a real compiler.
func Cache(t TB) *kernel.Cache {
	t.Helper()
	if Real() {
		return kernel.DefaultCache()
	}
	return &kernel.Cache{Dir: fake.Cache(t)}
}

// Open opens a device, which is closed with the test.
func Open(t TB, p engine.Precision, settings ...string) *engine.Device {
	t.Helper()
	d, err := engine.OpenDevice(engine.DeviceOptions{Precision: p, Libraries: Libraries(t, settings...), Cache: Cache(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Backend makes a backend of some kernels, for a test that closes it.
func Backend(d *engine.Device, table engine.Table, f engine.Fuser) *engine.Backend {
	return engine.New(engine.Config{Name: "cuda", Device: d, Table: table, Fuser: f})
}
