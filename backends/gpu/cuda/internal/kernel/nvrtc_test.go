package kernel

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
)

// NVIDIA's own compiler needs no device. It is looked for in NVRTC_DIR, and
// where the system has it.
func TestNVRTCTakesTheKernels(t *testing.T) {
	n, err := driver.OpenNVRTC(driver.Search{Dir: os.Getenv("NVRTC_DIR")})
	if errors.Is(err, driver.ErrNoNVRTC) && os.Getenv("NVRTC_DIR") == "" {
		t.Skipf("%s%v", fake.NotChecked, err)
	}
	must(t, err)
	major, minor := n.Version()
	t.Logf("NVRTC %d.%d", major, minor)
	for _, device := range []struct{ major, minor int }{{8, 0}, {9, 0}, {10, 0}, {99, 0}} {
		c, err := New(Options{NVRTC: n, Cache: &Cache{Dir: t.TempDir()}, Major: device.major, Minor: device.minor})
		must(t, err)
		for _, name := range []string{"axpy.cu", "rowsum.cu", "matmul.cu"} {
			image, err := c.Compile(source(t, name))
			must(t, err)
			// A cubin is an ELF file; its machine is EM_CUDA, 190.
			elf := bytes.HasPrefix(image.Code, []byte("\x7fELF")) && len(image.Code) > 20 && image.Code[18] == 190
			ptx := bytes.Contains(image.Code, []byte(".version")) && image.Code[len(image.Code)-1] == 0
			if want := device.major < 99; elf != want || ptx == want || image.Log != "" {
				t.Errorf("%s for %s: a cubin %v, PTX %v, log %q", name, image.Target, elf, ptx, image.Log)
			}
			again, err := c.Compile(source(t, name))
			if err != nil || !again.Cached || !bytes.Equal(again.Code, image.Code) {
				t.Errorf("%s for %s is not cached: %v", name, image.Target, err)
			}
			t.Logf("%s for %s: %d bytes", name, image.Target, len(image.Code))
		}
		_, err = c.Compile(driver.Source{Name: "bad.cu", Code: "__global__ void k() { int x = nothing; }"})
		if !errors.Is(err, driver.ErrCompile) || !bytes.Contains([]byte(err.Error()), []byte("bad.cu(1)")) {
			t.Errorf("a mistake: got %v", err)
		}
	}
}
