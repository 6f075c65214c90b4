package engine

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
)

// Fuser makes kernels of chains of primitives.
type Fuser interface {
	// Takes reports whether a chain can hold n.
	Takes(n *graph.Node) bool
	// Fuse replaces chains of a lowered graph by nodes of their own.
	Fuse(g *graph.Graph) (*graph.Graph, error)
	// Pick returns the kernel of such a node.
	Pick(n *graph.Node) (Kernel, bool)
	// Sources lists what the nodes of a fused graph are compiled from.
	Sources(g *graph.Graph) []driver.Source
}

// Config is what a backend is made of.
type Config struct {
	Name   string
	Device *Device // closed with the backend
	Table  Table
	Fuser  Fuser // nil: every node needs a kernel of the table
	// Sources are compiled side by side before the first graph is, which one after
	// another takes most of a minute. Those of kernels that are not here are compiled
	// when they are first bound.
	Sources []driver.Source
	// Passes rewrite a lowered graph, in order, before chains are made and types
	// change. Their nodes may be of ops that graph.Define does not know, for which
	// the table has kernels.
	Passes []func(*graph.Graph) (*graph.Graph, error)
	Notes  []string
}

// Backend runs graphs on a device. It implements framework.Backend.
type Backend struct {
	config Config
	device *Device
	closed atomic.Bool
}

// New returns a backend.
func New(c Config) *Backend { return &Backend{config: c, device: c.Device} }

// Name returns the backend's name.
func (b *Backend) Name() string { return b.config.Name }

// Describe implements framework.Describer.
func (b *Backend) Describe() framework.Info {
	d := b.device.Info()
	info := framework.Info{
		Name:   b.config.Name,
		Device: fmt.Sprintf("%s, %d MiB", d.Name, d.Memory>>20),
		Notes:  append([]string{"computes in " + string(b.device.Precision)}, b.config.Notes...),
	}
	for op := range b.config.Table {
		if graph.Lookup(op.Name) != op { // of a pass
			continue
		}
		info.Native = append(info.Native, op.Name)
	}
	slices.Sort(info.Native)
	return info
}

// Memory returns the bytes of the device that are free, and all.
func (b *Backend) Memory() (free, total int64, err error) {
	if b.closed.Load() {
		return 0, 0, errors.Wrapf(framework.ErrClosed, "backend %s", b.config.Name)
	}
	return b.device.context.Memory()
}

// NewStore returns an empty store in the device's memory.
func (b *Backend) NewStore() (framework.Store, error) {
	if b.closed.Load() {
		return nil, errors.Wrapf(framework.ErrClosed, "backend %s", b.config.Name)
	}
	return newStore(b, nil)
}

// Close gives the device back.
func (b *Backend) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	return errors.Wrapf(b.device.Close(), "close backend %s", b.config.Name)
}

// Compile lowers and places g, and compiles its kernels; they are bound to
// memory at the first run on a store.
func (b *Backend) Compile(ctx context.Context, g *graph.Graph) (framework.Executable, error) {
	if b.closed.Load() {
		return nil, errors.Wrapf(framework.ErrClosed, "backend %s", b.config.Name)
	}
	p, err := b.plan(g)
	if err != nil {
		return nil, err
	}
	if p.Arena < 0 || p.Arena > maxArena {
		return nil, errors.Wrapf(framework.ErrUnsupported, "backend %s: the graph's values do not fit in memory", b.config.Name)
	}
	if err := ctx.Err(); err != nil {
		return nil, errors.Wrap(err, "compile")
	}
	b.device.Warm(b.sources(p))
	return &executable{backend: b, plan: p, bound: map[*store]*bound{}}, nil
}

// sources lists what p is compiled from.
func (b *Backend) sources(p *plan) []driver.Source {
	all := slices.Clone(b.config.Sources)
	for ; b.config.Fuser != nil && p != nil; p = p.once {
		all = append(all, b.config.Fuser.Sources(p.Graph)...)
	}
	return all
}

// maxArena bounds the memory of a plan: what an address can hold.
const maxArena = 1 << 46

// align is the alignment of values in bytes, that of cuMemAlloc.
const align = 256

// plan is a lowered graph with a kernel and a place for everything.
type plan struct {
	*compile.Plan
	kernels map[*graph.Node]Kernel
	scratch int   // bytes of the node that wants most
	once    *plan // runs before it when states that it reads have changed; or nil
}

// Plan lowers and places g as Compile does.
func (b *Backend) Plan(g *graph.Graph) (*compile.Plan, error) {
	p, err := b.plan(g)
	if err != nil {
		return nil, err
	}
	return p.Plan, nil
}

func (b *Backend) plan(g *graph.Graph) (*plan, error) {
	for _, n := range g.States {
		if private(n) {
			return nil, errors.Wrapf(framework.ErrUnsupported, "backend %s: no state may be named %s", b.config.Name, n.Name())
		}
	}
	low, err := compile.Lower(g, func(n *graph.Node) bool {
		_, ok := b.config.Table.pick(n)
		return ok || b.config.Fuser != nil && b.config.Fuser.Takes(n)
	})
	if err != nil {
		return nil, errors.Wrapf(framework.ErrUnsupported, "backend %s: %v", b.config.Name, err)
	}
	for _, pass := range b.config.Passes {
		if low, err = pass(low); err != nil {
			return nil, errors.Wrapf(err, "backend %s: rewrite", b.config.Name)
		}
	}
	once, rest, err := split(low)
	if err != nil {
		return nil, errors.Wrapf(err, "backend %s: split", b.config.Name)
	}
	p, err := b.place(rest)
	if err != nil || once == nil {
		return p, err
	}
	p.once, err = b.place(once)
	return p, err
}

// place gives the nodes of a lowered graph their kernels and values their places.
func (b *Backend) place(low *graph.Graph) (*plan, error) {
	if b.config.Fuser != nil {
		var err error
		if low, err = b.config.Fuser.Fuse(low); err != nil {
			return nil, errors.Wrapf(err, "backend %s: fuse", b.config.Name)
		}
	}
	p := &plan{kernels: map[*graph.Node]Kernel{}}
	for _, n := range low.Nodes {
		if n.IsInput() || n.IsState() || n.Op.View {
			continue
		}
		k, ok := b.pick(n)
		if !ok {
			return nil, errors.Wrapf(framework.ErrUnsupported, "backend %s: %s @%s has no kernel", b.config.Name, n.Op.Name, n.Scope)
		}
		p.kernels[n] = k // before types change
	}
	if b.device.Precision == BF16 {
		narrow(low, p.kernels)
	}
	for n, k := range p.kernels {
		if k.Scratch != nil {
			p.scratch = max(p.scratch, roundUp(k.Scratch(n)))
		}
	}
	p.Plan = compile.Place(low, align, nil)
	return p, nil
}

func (b *Backend) pick(n *graph.Node) (Kernel, bool) {
	if k, ok := b.config.Table.pick(n); ok {
		return k, true
	}
	if b.config.Fuser == nil {
		return Kernel{}, false
	}
	return b.config.Fuser.Pick(n)
}

func roundUp(n int) int { return (n + align - 1) &^ (align - 1) }

// Estimate implements framework.Estimator.
func (b *Backend) Estimate(g *graph.Graph) (int64, error) {
	p, err := b.plan(g)
	if err != nil {
		return 0, err
	}
	work := p.work()
	if p.once != nil {
		work = max(work, p.once.work())
	}
	return work + blasBytes, nil
}

var (
	_ framework.Backend   = (*Backend)(nil)
	_ framework.Describer = (*Backend)(nil)
	_ framework.Estimator = (*Backend)(nil)
)
