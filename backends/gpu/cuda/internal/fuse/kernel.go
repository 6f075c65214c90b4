package fuse

import (
	_ "embed"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cu"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Options say how chains are run.
type Options struct {
	// Generate has a kernel made for each chain. It takes NVRTC, and a fraction of a
	// second for each kernel that is new. Otherwise an interpreter runs them, which
	// is the same for all and takes several times as long.
	Generate bool
}

// Fuser makes kernels of chains of primitives. It implements engine.Fuser.
type Fuser struct{ options Options }

// New returns a Fuser.
func New(o Options) *Fuser { return &Fuser{o} }

var _ engine.Fuser = (*Fuser)(nil)

// Takes reports whether a chain can hold n.
func (*Fuser) Takes(n *graph.Node) bool { return Takes(n) }

// Fuse replaces the chains of a graph; see the function Fuse.
func (*Fuser) Fuse(g *graph.Graph) (*graph.Graph, error) { return Fuse(g) }

// Sources lists what the fused nodes of a graph are compiled from, each once. Their
// values must have the types that they are stored in.
func (f *Fuser) Sources(g *graph.Graph) []driver.Source {
	set := map[string]driver.Source{}
	for _, n := range g.Nodes {
		if c := ChainOf(n); c != nil {
			s := f.program(c, n).source
			set[s.Name] = s
		}
	}
	var out []driver.Source
	for _, name := range slices.Sorted(maps.Keys(set)) {
		out = append(out, set[name])
	}
	return out
}

// Pick returns the kernel of a fused node.
func (f *Fuser) Pick(n *graph.Node) (engine.Kernel, bool) {
	c := ChainOf(n)
	if c == nil {
		return engine.Kernel{}, false
	}
	return engine.Kernel{
		Narrow:  func(*graph.Node) (in, out []bool) { return singles(c.in), singles(c.out) },
		Scratch: func(*graph.Node) int { return 4 * c.p.scratch() },
		Bind: func(call *engine.Call) error {
			return errors.Wrapf(f.bind(call), "chain %v", c.names)
		},
	}, true
}

// singles are the values that may be bf16.
func singles(all []tensor.Type) []bool {
	out := make([]bool, len(all))
	for i, t := range all {
		out[i] = t.DType == tensor.F32
	}
	return out
}

// kinds are how operands and results are stored.
type kinds struct{ in, out []layout }

// operand is the layout of operand k; tables, whose numbers are negative, are words.
func (k kinds) operand(i int) layout {
	if i < 0 {
		return storage[tensor.I32]
	}
	return k.in[i]
}

func (k kinds) result(i int) layout { return k.out[i] }

func kindsOf(n *graph.Node) kinds {
	var k kinds
	for _, v := range n.In {
		k.in = append(k.in, storage[v.Type().DType])
	}
	for _, t := range n.Out {
		k.out = append(k.out, storage[t.DType])
	}
	return k
}

//go:embed fuse.cuh
var header string

// withHeader is a source that includes fuse.cuh.
func withHeader(name, code string) driver.Source {
	s := cu.Source(name, code)
	s.Headers = maps.Clone(s.Headers)
	s.Headers["fuse.cuh"] = header
	return s
}

// executable is where the kernels of a chain are.
type executable struct {
	source       driver.Source
	main, finish string
	generated    bool
}

// maxGenerated is how many pointers a kernel of its own may have: its arguments
// must fit in 4 KiB.
const maxGenerated = 400

func (f *Fuser) program(c *Chain, n *graph.Node) executable {
	if f.options.Generate && len(c.in)+len(c.out)+len(c.p.tables) <= maxGenerated {
		source, name := c.p.generate(kindsOf(n))
		return executable{source, name, name + "_finish", true}
	}
	name := "fuse_tape"
	if c.p.wide {
		name = "fuse_tape_wide"
	}
	return executable{tapeSource(), name, name + "_finish", false}
}

// caller is what bind needs of an engine.Call.
type caller interface {
	Constant(data []byte) (driver.Pointer, error)
	Launch(f *driver.Function, grid, block driver.Dim, shared int, args ...any)
}

func (f *Fuser) bind(c *engine.Call) error {
	function := func(e executable, name string) (*driver.Function, error) { return c.Device.Function(e.source, name) }
	return f.bindTo(c, c.Node, c.In, c.Out, c.Scratch, function)
}

// bindTo appends the launches of a chain: one, or two where rows are cut.
func (f *Fuser) bindTo(c caller, n *graph.Node, in, out []driver.Pointer, scratch driver.Pointer,
	function func(executable, string) (*driver.Function, error),
) error {
	chain := ChainOf(n)
	p, exe := chain.p, f.program(chain, n)
	tables, err := p.upload(c)
	if err != nil {
		return err
	}
	var args []any
	if exe.generated {
		for _, ptr := range slices.Concat(in, tables, out) {
			args = append(args, ptr)
		}
	} else {
		table, err := c.Constant(p.table(kindsOf(n), in, tables, out))
		if err != nil {
			return err
		}
		args = append(args, table)
	}
	g := p.geometry()
	args = append(args, scratch)
	for _, size := range []int{p.count(), p.n, p.inner, g.span, g.parts} {
		if p.wide {
			args = append(args, uint64(size))
		} else {
			args = append(args, uint32(size))
		}
	}
	grid, last := p.grids()
	main, err := function(exe, exe.main)
	if err != nil {
		return err
	}
	c.Launch(main, grid, driver.Dim{X: blockSize}, 0, args...)
	if g.parts == 1 {
		return nil
	}
	finish, err := function(exe, exe.finish)
	if err != nil {
		return err
	}
	c.Launch(finish, last, driver.Dim{X: blockSize}, 0, slices.Clone(args)...)
	return nil
}

// grids are those of a program's kernel, and of the one that adds up parts.
func (p *program) grids() (main, finish driver.Dim) {
	blocks := func(items, each int) int { return (items + each - 1) / each }
	g := p.geometry()
	rows := quad * blockSize
	if g.group > 0 {
		rows = blockSize / g.group
	}
	return driver.Dim{X: blocks(p.count(), rows), Y: g.parts}, driver.Dim{X: blocks(p.count(), blockSize/warpSize)}
}

// upload gives the tables of a program to the device.
func (p *program) upload(c caller) ([]driver.Pointer, error) {
	var out []driver.Pointer
	for _, t := range p.tables {
		var b []byte
		for _, w := range t {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
		ptr, err := c.Constant(b)
		if err != nil {
			return nil, err
		}
		out = append(out, ptr)
	}
	return out, nil
}
