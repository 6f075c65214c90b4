package driver

import (
	"errors"
	"testing"
)

// What NVRTC refuses the fake must refuse too, or a kernel that was tested
// would fail on a device.
func TestWhatNVRTCDoesNotHaveIsNotThere(t *testing.T) {
	r := newFake(t)
	for _, body := range []string{"float x = INFINITY;", "uint32_t x = 0;", "double x = M_PI;", `asm("exit;");`} {
		_, err := r.n.Compile(Source{Name: "a.cu", Code: `extern "C" __global__ void k() { ` + body + ` }`}, "--gpu-architecture=sm_90")
		if !errors.Is(err, ErrCompile) {
			t.Errorf("%s: got %v, want %v", body, err, ErrCompile)
		}
	}
	for _, body := range []string{"typedef unsigned uint32_t; uint32_t x = 0;", "size_t n = sizeof(float4);"} {
		_, err := r.n.Compile(Source{Name: "a.cu", Code: `extern "C" __global__ void k() { ` + body + ` }`}, "--gpu-architecture=sm_90")
		must(t, err)
	}
}
