package fuse

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/kernel"
)

// NVIDIA's own compiler takes the interpreter and what is generated, without a
// warning. It is looked for in NVRTC_DIR, and where the system has it.
func TestNVRTCTakesTheKernelsOfChains(t *testing.T) {
	n, err := driver.OpenNVRTC(driver.Search{Dir: os.Getenv("NVRTC_DIR")})
	if errors.Is(err, driver.ErrNoNVRTC) && os.Getenv("NVRTC_DIR") == "" {
		t.Skipf("%s%v", fake.NotChecked, err)
	}
	must(t, err)
	narrow, wide := chainCode(t, false), chainCode(t, true)
	for _, device := range []struct{ major, minor int }{{8, 0}, {9, 0}, {10, 0}} {
		c, err := kernel.New(kernel.Options{NVRTC: n, Major: device.major, Minor: device.minor})
		must(t, err)
		for _, src := range []driver.Source{tapeSource(), narrow, wide} {
			image, err := c.Compile(src, "--std=c++17")
			must(t, err)
			if image.Log != "" {
				t.Errorf("%s for %s: %s", src.Name, image.Target, image.Log)
			}
		}
	}
}

// chainCode is the kernels of every seventh sample, as one source: the compiler
// takes a tenth of a second for each.
func chainCode(t *testing.T, wide bool) driver.Source {
	own, name, all := New(Options{Generate: true}), "all.cu", ""
	if wide {
		name = "wide.cu"
	}
	for i, s := range samples() {
		g := fused(t, s.graph(t))
		if i%7 != 0 || len(g.Inputs) > 9 {
			continue
		}
		for _, n := range chainsOf(g) {
			ChainOf(n).p.wide = wide
		}
		for _, src := range own.Sources(g) {
			if !strings.Contains(all, src.Code) {
				all += src.Code
			}
		}
	}
	return withHeader(name, all)
}
