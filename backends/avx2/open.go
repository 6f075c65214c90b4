package avx2

import (
	"runtime"
	"strings"

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
	var lacks []string
	for _, f := range []cpuid.FeatureID{cpuid.AVX2, cpuid.FMA3, cpuid.F16C} {
		if !has(f) {
			lacks = append(lacks, f.String())
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	err := errors.Wrapf(framework.ErrUnsupported, "processor %q lacks %s", cpuid.CPU.BrandName, strings.Join(lacks, ", "))
	return errors.WithHint(err, "use --backend scalar")
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
	if err := unsupported(assembly, cpuid.CPU.Has); err != nil {
		return nil, err
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
