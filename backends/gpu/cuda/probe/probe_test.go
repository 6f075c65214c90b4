package probe_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/probe"
	"github.com/ternlm/tern/backends/gpu/cuda/simulated"
)

func TestWhatIsMissingIsNamedWithWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		o     simulated.Options
		ready bool
		text  []string
	}{
		"nothing":            {simulated.Options{}, true, []string{"CUDA 12.", "compute capability 9.0", "yes: --backend gpu"}},
		"the driver":         {simulated.Options{Omit: []string{"libcuda.so.1"}}, false, []string{"no CUDA driver", "-> install NVIDIA's driver"}},
		"a device":           {simulated.Options{Settings: []string{"devices=0"}}, false, []string{"CUDA_ERROR_NO_DEVICE", "-> look at nvidia-smi"}},
		"a newer driver":     {simulated.Options{Settings: []string{"version=11080"}}, false, []string{"is for CUDA 11.8", "-> update NVIDIA's driver"}},
		"a newer device":     {simulated.Options{Settings: []string{"capability=75"}}, false, []string{"below 8.0", "-> use a device"}},
		"NVRTC":              {simulated.Options{Omit: []string{"libnvrtc.so.12"}}, false, []string{"no NVRTC library", "nvidia-cuda-nvrtc-cu12"}},
		"cuBLASLt, it works": {simulated.Options{Omit: []string{"libcublasLt.so.12"}}, true, []string{"no cuBLASLt library", "nvidia-cublas-cu12", "without it, slower"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := probe.Look(probe.Options{Libraries: simulated.Libraries(t, c.o), Only: true})
			var out bytes.Buffer
			if err := r.Write(&out); err != nil {
				t.Fatal(err)
			}
			if r.Ready != c.ready {
				t.Errorf("ready: %v\n%s", r.Ready, out.String())
			}
			for _, want := range c.text {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, out.String())
				}
			}
		})
	}
}

func TestADeviceThatIsNotThereIsNotReady(t *testing.T) {
	libraries := simulated.Libraries(t, simulated.Options{})
	for _, n := range []int{-1, 1} {
		if probe.Look(probe.Options{Libraries: libraries, Only: true, Device: n}).Ready {
			t.Errorf("device %d of one is ready", n)
		}
	}
}
