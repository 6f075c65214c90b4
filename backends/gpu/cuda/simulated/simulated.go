// Package simulated gives the tests of other packages the CUDA libraries that run
// on the processor. It is no part of any program.
package simulated

import "github.com/ternlm/tern/backends/gpu/cuda/internal/fake"

// Options are what a test wants of the libraries: docs/gpu.md lists the settings.
type Options = fake.Options

// Libraries returns a new directory with a libcuda, an NVRTC and a cuBLASLt, for
// the option libraries of the backend. Where there is no C++ compiler the test is
// skipped.
func Libraries(t fake.TB, o Options) string {
	t.Helper()
	return fake.Build(t, o)
}

// Cache returns a directory for the kernels that they compile, which is kept.
// Libraries is called first.
func Cache(t fake.TB) string {
	t.Helper()
	return fake.Cache(t)
}
