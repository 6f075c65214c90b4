package multi_test

import (
	"errors"
	"os"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/kernel"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/multi"
)

// NVIDIA's own compiler needs no device. It is looked for in NVRTC_DIR, and where the
// system has it.
func TestNVRTCTakesTheKernels(t *testing.T) {
	n, err := driver.OpenNVRTC(driver.Search{Dir: os.Getenv("NVRTC_DIR")})
	if errors.Is(err, driver.ErrNoNVRTC) && os.Getenv("NVRTC_DIR") == "" {
		t.Skipf("%s%v", fake.NotChecked, err)
	}
	must(t, err)
	for _, capability := range [][2]int{{8, 0}, {9, 0}, {10, 0}} {
		c, err := kernel.New(kernel.Options{NVRTC: n, Major: capability[0], Minor: capability[1]})
		must(t, err)
		for _, src := range multi.Sources() {
			image, err := c.Compile(src, "--std=c++17")
			if err != nil || image.Log != "" {
				t.Errorf("%s for %v: %v\n%s", src.Name, capability, err, image.Log)
			}
		}
	}
}
