package avx2

import (
	"runtime"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/cpuid/v2"

	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
)

// maxThreads bounds the option threads.
const maxThreads = 1024

func init() { framework.Backends.Register("avx2", Open) }

// Supported reports whether this program on this processor can run the backend.
func Supported() bool {
	return unsupported(assembly, cpuid.CPU.Has) == nil
}

// unsupported says why a program, with assembly or without, cannot run the
// backend on a processor that has these features; nil is that it can.
func unsupported(assembly bool, has func(cpuid.FeatureID) bool) error {
	if !assembly && runtime.GOARCH == "amd64" {
		err := errors.Wrap(framework.ErrUnsupported, "this program was built without assembly")
		return errors.WithHint(err, "build it without the tag purego, or use --backend scalar")
	}
	if !assembly {
		return errors.WithHint(errors.Wrapf(framework.ErrUnsupported, "there is no assembly for %s", runtime.GOARCH), "use --backend scalar")
	}
	missing := lacks(simd.AVX2, has)
	if len(missing) == 0 {
		return nil
	}
	err := errors.Wrapf(framework.ErrUnsupported, "processor %q lacks %s", cpuid.CPU.BrandName, strings.Join(missing, ", "))
	return errors.WithHint(err, "use --backend scalar")
}

// Open returns the backend. The option threads is the number of workers, 0
// (the default) for as many as Go has processors. The option ternary names the
// kernel of ternary weights: maddubs (the default) multiplies, pshufb looks
// products up in tables. The option isa names the instructions: auto (the
// default) is avx512 where the processor has AVX-512 as of Ice Lake and Zen 4,
// else avx2. All choices give the same bits.
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
	name, err := o.Choice("isa", isaNames...)
	if err != nil {
		return nil, err
	}
	if err := unsupported(assembly, cpuid.CPU.Has); err != nil {
		return nil, err
	}
	isa, err := chooseISA(name, cpuid.CPU.Has)
	if err != nil {
		return nil, err
	}
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	plans := parallel{threads, lossBlock, isa}
	native := plans.kernels()
	if kernel == "pshufb" {
		plans.addProducts(native, shuffled)
	}
	return &backend{host.New("avx2", scalar.Kernels[float32]().With(native), host.Config{
		Threads: threads, Device: device(isa), Native: native,
	}), isa}, nil
}

// device describes the processor, and what of it is used beyond AVX2.
func device(isa simd.ISA) string {
	if isa == simd.AVX512 {
		return cpuid.CPU.BrandName + ", AVX-512"
	}
	return cpuid.CPU.BrandName
}
