package host

import (
	"fmt"
	"sync/atomic"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Loop is work on independent items. Do may be called on any disjoint ranges
// that cover [0,Items), at once; the result must not depend on the split, so a
// loop is cut over results, never over a reduction.
type Loop struct {
	Items int
	Grain int // items worth handing out together; 0 means all on one worker
	Do    func(lo, hi int)
}

// Call is what a kernel is bound to. In and Out follow the node's operands and
// results. An idle operand (see graph.Node.Idle) has no data. In a backend
// that computes in float64, f32 data is eight bytes an element.
type Call struct {
	Node     *graph.Node
	In, Out  []tensor.Tensor
	Scratch  []byte   // as many bytes as Kernel.Scratch asked for; not kept between runs
	Prepared [][]byte // as Kernel.Prepare asked for, filled
	failure  *atomic.Pointer[error]
}

// Fail records the first error of a run; Run returns it. A kernel that calls
// it must still stay within its buffers. It may allocate: a failing run ends.
func (c *Call) Fail(err error) {
	err = fmt.Errorf("%s @%s: %w", c.Node.Op.Name, c.Node.Scope, err)
	c.failure.CompareAndSwap(nil, &err)
}

// Prepared is another layout of some operands, such as packed weights. When
// the operands are states, it is kept in the store beside them and filled
// again only after one of them has changed.
type Prepared struct {
	Key      string // names the layout; equal keys on equal operands share memory
	Operands []int
	Bytes    int
	// Sole says that the kernel reads these operands through this layout alone, so
	// that contents which can be fetched again need not be kept beside it.
	Sole bool
	// InPlace says that Fill may find its only operand in the memory of dst, which
	// then is at least as long.
	InPlace bool
	Fill    func(dst []byte, in []tensor.Tensor) []Loop // in follows Operands
}

// Kernel computes one op.
type Kernel struct {
	// Supports reports whether the kernel takes this node; nil means always.
	Supports func(n *graph.Node) bool
	// Bind returns the loops to run, one after another. It is called once.
	Bind func(c *Call) []Loop
	// Scratch returns the bytes of working memory that Bind wants.
	Scratch func(n *graph.Node) int
	// Prepare returns the layouts that Bind wants.
	Prepare func(n *graph.Node) []Prepared
}

// Table holds the kernels of a backend by op. Of several for one op the first
// that supports a node runs it.
type Table map[*graph.Op][]Kernel

// Add puts k before the kernels that the table has for the named op.
func (t Table) Add(op string, k Kernel) {
	o := graph.Lookup(op)
	if o == nil {
		panic("host: kernel for unknown op " + op)
	}
	t[o] = append([]Kernel{k}, t[o]...)
}

// With returns a table in which the kernels of over come first.
func (t Table) With(over Table) Table {
	u := Table{}
	for op, ks := range t {
		u[op] = ks
	}
	for op, ks := range over {
		u[op] = append(append([]Kernel{}, ks...), t[op]...)
	}
	return u
}

// Pick returns the kernel that runs n.
func (t Table) Pick(n *graph.Node) (Kernel, bool) {
	for _, k := range t[n.Op] {
		if k.Supports == nil || k.Supports(n) {
			return k, true
		}
	}
	return Kernel{}, false
}
