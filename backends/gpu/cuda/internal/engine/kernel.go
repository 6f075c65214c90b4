package engine

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Kernel computes one op.
type Kernel struct {
	// Supports reports whether the kernel takes this node; nil means always.
	Supports func(n *graph.Node) bool
	// Narrow reports which operands and results may be bf16 where the graph says
	// f32; nil means none. Each that may be must be taken either way, whatever the
	// others are: the types of the node that Bind gets say which it is.
	Narrow func(n *graph.Node) (in, out []bool)
	// Scratch returns the bytes of working memory that Bind wants.
	Scratch func(n *graph.Node) int
	// Bind appends the work of one run to c, by its methods. It is called once
	// for each binding of a plan to memory, and must not wait for the device.
	Bind func(c *Call) error
}

// Table holds the kernels of a backend by op. Of several for one op the first
// that supports a node runs it.
type Table map[*graph.Op][]Kernel

// Add puts k behind the kernels that the table has for the named op.
func (t Table) Add(op string, k Kernel) {
	o := graph.Lookup(op)
	if o == nil {
		panic("engine: kernel for unknown op " + op)
	}
	t[o] = append(t[o], k)
}

// pick returns the kernel that runs n.
func (t Table) pick(n *graph.Node) (Kernel, bool) {
	for _, k := range t[n.Op] {
		if k.Supports == nil || k.Supports(n) {
			return k, true
		}
	}
	return Kernel{}, false
}

// Call is what a kernel is bound to.
type Call struct {
	Node    *graph.Node      // its types say which values are bf16
	In, Out []driver.Pointer // follow the node's operands and results; 0 for an idle operand (graph.Node.Idle)
	Scratch driver.Pointer   // as many bytes as Kernel.Scratch asked for; not kept between runs
	Device  *Device

	b *bound
}

// step is a piece of work that was bound.
type step interface {
	run(s *driver.Stream) error
}

// Launch appends a launch of a kernel. Arguments are as for
// driver.Function.Launch; an int is passed as an int32, and must fit in one. Where
// shared is more than a kernel has unasked, it is asked for.
func (c *Call) Launch(f *driver.Function, grid, block driver.Dim, shared int, args ...any) {
	for i, a := range args {
		if v, ok := a.(int); ok {
			args[i] = int32(v)
		}
	}
	l := f.Launch(grid, block, args...)
	l.Shared = shared
	c.b.steps = append(c.b.steps, launchStep{l, f.SetDynamicShared(shared)})
}

// Matmul appends a product of cuBLASLt. cuBLASLt's working memory is the engine's.
func (c *Call) Matmul(spec driver.MatmulSpec, x, y, z, out driver.Pointer) error {
	return c.b.matmul(spec, x, y, z, out)
}

// Fill32 appends setting n words to value.
func (c *Call) Fill32(dst driver.Pointer, value uint32, n int) {
	c.b.steps = append(c.b.steps, fillStep{dst, value, n})
}

// Copy appends a copy within the device's memory; the two must not overlap.
func (c *Call) Copy(dst, src driver.Pointer, bytes int) {
	if bytes > 0 && dst != src {
		c.b.steps = append(c.b.steps, copyStep{dst, src, bytes})
	}
}

// Failure returns the arguments "int *failure, int node" of a kernel that calls
// fail (tern.cuh): what it says is the error of the run, as a value that is out of
// range.
func (c *Call) Failure() (failure driver.Pointer, node int32) {
	return c.b.failure, int32(c.b.failing(c.Node))
}

// Narrow has bit i set where value i of the node is bf16: operands first, then
// results. It is the argument by which kernels that take either width are told.
func (c *Call) Narrow() uint32 {
	var mask uint32
	i := 0
	for _, v := range c.Node.In {
		if v.Type().DType == tensor.BF16 {
			mask |= 1 << i
		}
		i++
	}
	for _, t := range c.Node.Out {
		if t.DType == tensor.BF16 {
			mask |= 1 << i
		}
		i++
	}
	return mask
}

type launchStep struct {
	l   *driver.Launch
	err error // of asking for its shared memory
}

func (l launchStep) run(s *driver.Stream) error {
	if l.err != nil {
		return l.err
	}
	return l.l.Run(s)
}

type fillStep struct {
	dst   driver.Pointer
	value uint32
	n     int
}

func (f fillStep) run(s *driver.Stream) error { return s.Fill32(f.dst, f.value, f.n) }

type copyStep struct {
	dst, src driver.Pointer
	bytes    int
}

func (c copyStep) run(s *driver.Stream) error { return s.Copy(c.dst, c.src, c.bytes) }

type matmulStep struct {
	spec            driver.MatmulSpec
	m               *driver.Matmul
	x, y, z, d, tmp driver.Pointer
}

func (m matmulStep) run(s *driver.Stream) error { return m.m.Run(s, m.x, m.y, m.z, m.d, m.tmp) }
