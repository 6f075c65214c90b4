package cuda

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fuse"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/kernel"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/attention"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/joined"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/linear"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/multi"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/rows"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/stack"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// Open opens a device. The options are
//
//	device     a number from 0, of the devices that CUDA lists (default 0)
//	precision  bf16 (the default): values between kernels are stored as bf16 and
//	           products made by tensor cores, with f32 sums; or f32
//	libraries  a directory in which libcuda, NVRTC and cuBLASLt are looked for first
//	cache      a directory for compiled kernels; without it tern/cuda in the
//	           user's cache directory
//	generate   auto (the default): chains of elementwise work become kernels of their
//	           own; never: they are interpreted by one kernel, which is slower
//
// Errors say what is missing and what to do.
func Open(o framework.Options) (framework.Backend, error) {
	ordinal, err := o.Int("device", 0)
	if err != nil {
		return nil, err
	}
	precision, err := o.Choice("precision", string(engine.BF16), string(engine.F32))
	if err != nil {
		return nil, err
	}
	generate, err := o.Choice("generate", "auto", "never")
	if err != nil {
		return nil, err
	}
	c := config{
		device: engine.DeviceOptions{
			PTX:     embedded{},
			Ordinal: ordinal, Precision: engine.Precision(precision), Cache: kernel.DefaultCache(),
			Libraries: driver.Search{Dir: o.String("libraries", "")},
		},
		generate: generate == "auto",
	}
	if dir := o.String("cache", ""); dir != "" {
		c.device.Cache = &kernel.Cache{Dir: dir}
	}
	return open(c)
}

type config struct {
	device   engine.DeviceOptions
	generate bool
}

func open(c config) (*engine.Backend, error) {
	d, err := engine.OpenDevice(c.device)
	if err != nil {
		return nil, errors.Wrap(err, "open a CUDA device")
	}
	var notes []string
	if !d.HasBLAS() {
		notes = append(notes, "there is no cuBLASLt: products are made by slower kernels")
	}
	if !d.Compiles() {
		notes = append(notes, "there is no NVRTC: chains of elementwise work are interpreted")
	}
	info := d.Info()
	notes = append(notes, fmt.Sprintf("compute capability %d.%d, %d multiprocessors", info.Major, info.Minor, info.Multiprocessors))
	return backend(d, c.generate && d.Compiles(), notes), nil
}

// backend makes the backend of an open device.
func backend(d *engine.Device, generate bool, notes []string) *engine.Backend {
	return engine.New(engine.Config{
		Name: "cuda", Device: d, Table: kernels(), Notes: notes, Fuser: fuse.New(fuse.Options{Generate: generate}),
		Passes: passes(), Sources: sources(),
	})
}

// passes are made of a lowered graph in this order: products of a few rows are joined
// with what is around them, and those of more share rows that are quantized; equal
// computations on many states, those of an optimizer, become one.
func passes() []func(*graph.Graph) (*graph.Graph, error) {
	return []func(*graph.Graph) (*graph.Graph, error){joined.Join, quantized.Share, joined.JoinRows, stack.Stack, multi.Join}
}

func kernels() engine.Table {
	t := engine.Table{}
	linear.Add(t)
	attention.Add(t)
	rows.Add(t)
	joined.Add(t)
	multi.Add(t)
	return t
}

// sources lists the CUDA C++ files of all kernels.
func sources() []driver.Source {
	return slices.Concat(linear.Sources(), attention.Sources(), rows.Sources(), joined.Sources(), multi.Sources(), fuse.Files())
}
