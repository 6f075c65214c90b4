package avx2

import (
	"runtime"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/cpuid/v2"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
)

// maxThreads bounds the option threads.
const maxThreads = 1024

func init() { framework.Backends.Register("avx2", Open) }

// Supported reports whether this program on this processor can run the backend.
func Supported() bool {
	return assembly && cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3, cpuid.F16C)
}

// Open returns the backend. The option threads is the number of workers, 0
// (the default) for as many as Go has processors. The option ternary names the
// kernel of ternary weights: maddubs (the default) multiplies, pshufb looks
// products up in tables; both give the same bits.
func Open(o framework.Options) (framework.Backend, error) {
	threads, err := o.Int("threads", 0)
	if err != nil {
		return nil, err
	}
	if threads < 0 || threads > maxThreads {
		return nil, errors.WithHintf(errors.Wrapf(framework.ErrOption, "threads=%d", threads), "give 0 to %d", maxThreads)
	}
	kernel, err := o.Choice("ternary", "maddubs", "pshufb")
	if err != nil {
		return nil, err
	}
	if !Supported() {
		err := errors.Wrapf(framework.ErrUnsupported, "processor %q (%s)", cpuid.CPU.BrandName, runtime.GOARCH)
		return nil, errors.WithHint(err, "avx2 needs an amd64 build and a processor with AVX2, FMA and F16C; use --backend scalar")
	}
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	native := kernels(threads)
	if kernel == "pshufb" {
		addProducts(native, shuffled)
	}
	return host.New("avx2", scalar.Kernels[float32]().With(native), host.Config{
		Threads: threads, Device: cpuid.CPU.BrandName, Native: native,
	}), nil
}
