package scalar

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework"
)

// Float is an element type the kernels compute in.
type Float interface{ ~float32 | ~float64 }

// maxThreads bounds the option threads.
const maxThreads = 1024

func init() { framework.Backends.Register("scalar", Open) }

// Open returns the reference backend in float32. The option threads is the
// number of workers, 0 (the default) for as many as Go has processors.
func Open(o framework.Options) (framework.Backend, error) {
	threads, err := o.Int("threads", 0)
	if err != nil {
		return nil, err
	}
	if threads < 0 || threads > maxThreads {
		return nil, errors.WithHintf(errors.Wrapf(framework.ErrOption, "threads=%d", threads), "give 0 to %d", maxThreads)
	}
	k := Kernels[float32]()
	return host.New("scalar", k, host.Config{Threads: threads, Device: "Go", Native: k}), nil
}

// Open64 returns the reference backend in float64: it computes f32 values in
// float64, and the tensors that go in and come out may be f64.
func Open64(threads int) framework.Backend {
	k := Kernels[float64]()
	return host.New("scalar64", k, host.Config{Threads: threads, Device: "Go", Native: k, Float64: true})
}

// Kernels returns the reference kernels, which hold f32 graph values as F.
func Kernels[F Float]() host.Table {
	t := host.Table{}
	addElementwise[F](t)
	addReductions[F](t)
	addMovement[F](t)
	addIndexing[F](t)
	addCodes[F](t)
	t.Add("matmul", matMul[F]())
	addRows[F](t)
	t.Add("rope", rope[F](1, 0))
	t.Add("rope.vjp", rope[F](-1, 2))
	t.Add("attention", attention[F]())
	t.Add("attention.vjp", attentionVJP[F]())
	addLinear[F](t)
	addStreams[F](t)
	t.Add("adamw", adamW[F]())
	return t
}
