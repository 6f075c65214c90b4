package host

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Config is how a backend runs.
type Config struct {
	Threads int    // workers, 0 for GOMAXPROCS
	Device  string // for Describe
	Native  Table  // the kernels that count as the backend's own, for Describe
	Float64 bool   // compute f32 values in float64; tensors in and out are then f64
	NoReuse bool   // give every value memory of its own, for tests
}

// Backend runs graphs by a table of kernels. It implements framework.Backend.
type Backend struct {
	name   string
	table  Table
	config Config
	pool   *Pool
	closed atomic.Bool
}

// New returns a backend that runs what table has kernels for.
func New(name string, table Table, c Config) *Backend {
	return &Backend{name: name, table: table, config: c, pool: NewPool(c.Threads)}
}

// Name returns the backend's name.
func (b *Backend) Name() string { return b.name }

// Describe implements framework.Describer.
func (b *Backend) Describe() framework.Info {
	info := framework.Info{Name: b.name, Device: b.config.Device, Threads: b.pool.Workers()}
	for op := range b.config.Native {
		info.Native = append(info.Native, op.Name)
	}
	slices.Sort(info.Native)
	return info
}

// NewStore returns an empty store in this process's memory.
func (b *Backend) NewStore() (framework.Store, error) {
	if b.closed.Load() {
		return nil, errors.Wrapf(framework.ErrClosed, "backend %s", b.name)
	}
	return newStore(b, nil), nil
}

// Close stops the workers.
func (b *Backend) Close() error {
	if !b.closed.Swap(true) {
		b.pool.Close()
	}
	return nil
}

// Compile lowers and places g; kernels are bound at the first run on a store.
func (b *Backend) Compile(_ context.Context, g *graph.Graph) (framework.Executable, error) {
	if b.closed.Load() {
		return nil, errors.Wrapf(framework.ErrClosed, "backend %s", b.name)
	}
	plan, err := b.Plan(g)
	if err != nil {
		return nil, err
	}
	if plan.Arena < 0 || plan.Arena > maxArena || b.mostScratch(plan.Graph) > maxArena {
		return nil, errors.Wrapf(framework.ErrUnsupported, "backend %s: the graph's values do not fit in memory", b.name)
	}
	return &executable{backend: b, plan: plan, hash: g.Hash(), bound: map[*store]*bound{}}, nil
}

// Plan lowers and places g as Compile does.
func (b *Backend) Plan(g *graph.Graph) (*compile.Plan, error) {
	low, err := compile.Lower(g, func(n *graph.Node) bool {
		_, ok := b.table.Pick(n)
		return ok
	})
	if err != nil {
		return nil, errors.Wrapf(framework.ErrUnsupported, "backend %s: %v", b.name, err)
	}
	if b.config.NoReuse {
		return compile.PlaceApart(low, 64, b.size), nil
	}
	return compile.Place(low, 64, b.size), nil
}

// maxArena bounds the memory of a plan: what a processor can address.
const maxArena = 1 << 46

// size is the bytes of a value in this backend.
func (b *Backend) size(t tensor.Type) int { return b.wireType(t).Bytes() }

// wireType is the type of the tensors that carry values of type t.
func (b *Backend) wireType(t tensor.Type) tensor.Type {
	if b.config.Float64 && t.DType == tensor.F32 {
		t.DType = tensor.F64
	}
	return t
}

// stateType is the graph type of a tensor that is put in a store.
func (b *Backend) stateType(t tensor.Type) tensor.Type {
	if b.config.Float64 && t.DType == tensor.F64 {
		t.DType = tensor.F32
	}
	return tensor.Type{DType: t.DType, Shape: slices.Clone(t.Shape)}
}

// alloc returns zeroed memory for a value of graph type t.
func (b *Backend) alloc(t tensor.Type) tensor.Tensor {
	return tensor.Tensor{Type: t, Data: tensor.AlignedBytes(b.size(t))}
}

// load copies src into the memory of dst, widening f32 where the backend
// computes in float64.
func (b *Backend) load(dst tensor.Tensor, src *tensor.Tensor) {
	if b.config.Float64 && src.DType == tensor.F32 {
		wide := tensor.View[float64](dst.Data)
		for i, v := range src.F32() {
			wide[i] = float64(v)
		}
		return
	}
	copy(dst.Data, src.Data)
}

// store copies a value out to dst, narrowing f64 where dst is f32.
func (b *Backend) store(dst *tensor.Tensor, src tensor.Tensor) {
	if b.config.Float64 && src.DType == tensor.F32 && dst.DType == tensor.F32 {
		narrow := dst.F32()
		for i, v := range tensor.View[float64](src.Data) {
			narrow[i] = float32(v)
		}
		return
	}
	copy(dst.Data, src.Data)
}

// accepts reports whether t may carry a value of graph type want.
func (b *Backend) accepts(t *tensor.Tensor, want tensor.Type) bool {
	return t != nil && len(t.Data) == t.Type.Bytes() && (t.Type.Equal(want) || t.Type.Equal(b.wireType(want)))
}

// mostScratch is the working memory of the kernel of g that wants most.
func (b *Backend) mostScratch(g *graph.Graph) int {
	most := 0
	for _, n := range g.Nodes {
		if k, ok := b.table.Pick(n); ok && k.Scratch != nil {
			most = max(most, k.Scratch(n))
		}
	}
	return most
}

// Estimate implements framework.Estimator.
func (b *Backend) Estimate(g *graph.Graph) (int64, error) {
	plan, err := b.Plan(g)
	if err != nil {
		return 0, err
	}
	bytes := int64(plan.Arena + b.mostScratch(plan.Graph))
	for _, n := range plan.Graph.Nodes {
		if k, ok := b.table.Pick(n); ok && k.Prepare != nil {
			for _, p := range k.Prepare(n) {
				bytes += int64(p.Bytes)
			}
		}
	}
	return bytes, nil
}
