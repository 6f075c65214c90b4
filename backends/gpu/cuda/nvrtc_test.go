package cuda

import (
	"fmt"
	"os"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/kernel"
)

// nvrtc opens NVIDIA's own compiler, which needs no device. It is looked for in
// NVRTC_DIR, and where the system has it.
func nvrtc(t *testing.T) *driver.NVRTC {
	t.Helper()
	n, err := driver.OpenNVRTC(driver.Search{Dir: os.Getenv("NVRTC_DIR")})
	if errors.Is(err, driver.ErrNoNVRTC) && os.Getenv("NVRTC_DIR") == "" {
		t.Skipf("%s%v", fake.NotChecked, err)
	}
	must(t, err)
	return n
}

func TestNVRTCTakesEveryKernel(t *testing.T) {
	n := nvrtc(t)
	devices := []struct{ major, minor int }{{9, 0}, {8, 0}, {10, 0}}
	if testing.Short() {
		devices = devices[:1]
	}
	for _, device := range devices {
		c, err := kernel.New(kernel.Options{NVRTC: n, Major: device.major, Minor: device.minor})
		must(t, err)
		for _, src := range sources() {
			t.Run(fmt.Sprintf("%d%d/%s", device.major, device.minor, src.Name), func(t *testing.T) {
				t.Parallel()
				image, err := c.Compile(src, "--std=c++17")
				if err != nil || image.Log != "" {
					t.Errorf("%v\n%s", err, image.Log)
				}
				t.Logf("%s: %d bytes", image.Target, len(image.Code))
			})
		}
	}
}
