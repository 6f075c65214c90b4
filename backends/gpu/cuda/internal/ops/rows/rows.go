package rows

import (
	_ "embed"
	"maps"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cu"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

var (
	//go:embed rows.cuh
	header string
	//go:embed norm.cu
	normCode string
	//go:embed elementwise.cu
	elementwiseCode string
	//go:embed loss.cu
	lossCode string
	//go:embed index.cu
	indexCode string
	//go:embed streams.cu
	streamsCode string
)

var (
	norms       = source("rows_norm.cu", normCode)
	elementwise = source("rows_elementwise.cu", elementwiseCode)
	losses      = source("rows_loss.cu", lossCode)
	indexing    = source("rows_index.cu", indexCode)
	streams     = source("rows_streams.cu", streamsCode)
)

func source(name, code string) driver.Source {
	s := cu.Source(name, code)
	s.Headers = maps.Clone(s.Headers)
	s.Headers["rows.cuh"] = header
	return s
}

// Sources lists what the kernels are compiled from.
func Sources() []driver.Source {
	return []driver.Source{norms, elementwise, losses, indexing, streams}
}

// Add puts the kernels into t.
func Add(t engine.Table) {
	addNorms(t)
	addElementwise(t)
	addLosses(t)
	addIndexing(t)
	addStreams(t)
}

// add puts k into t for nodes whose dimensions are numbers that a kernel takes.
func add(t engine.Table, op string, k engine.Kernel) {
	supports := k.Supports
	k.Supports = func(n *graph.Node) bool { return countable(n) && (supports == nil || supports(n)) }
	t.Add(op, k)
}

// countable reports whether every dimension of n fits in an int32. The number of
// elements need not.
func countable(n *graph.Node) bool {
	for _, v := range n.In {
		for _, d := range v.Shape() {
			if d > 1<<31-1 {
				return false
			}
		}
	}
	return true
}

// narrows makes a Narrow of what it returns.
func narrows(in, out []bool) func(*graph.Node) ([]bool, []bool) {
	return func(*graph.Node) ([]bool, []bool) { return in, out }
}

// flags are bits 0, 1 and so on of the values that are bf16.
func flags(types ...tensor.Type) uint32 {
	var mask uint32
	for i, t := range types {
		if t.DType == tensor.BF16 {
			mask |= 1 << i
		}
	}
	return mask
}

// split gives the number of rows of a shape along its last axis, and their width.
func split(s tensor.Shape) (rows, width int) {
	if len(s) == 0 {
		return 1, 1
	}
	return s[:len(s)-1].Numel(), s[len(s)-1]
}

func ceil(a, b int) int { return (a + b - 1) / b }

func roundUp(n, to int) int { return ceil(n, to) * to }

// maxBlocks is how many blocks a grid may have. Tests make it less.
var maxBlocks = 1<<31 - 1

// blocks is a grid of enough blocks for items, so many a block. Kernels go on with
// what is beyond the largest grid.
func blocks(items, per int) driver.Dim {
	return driver.Dim{X: min(max(1, ceil(items, per)), maxBlocks)}
}

// vector is how many elements an access has, for rows of a width: 4, or 1 where
// rows do not begin on multiples of 4.
func vector(width int) (elements int, suffix string) {
	if width%4 == 0 {
		return 4, "_4"
	}
	return 1, "_1"
}

// kept is how many chunks of a row a thread keeps in registers (norm.cu).
const kept = 8

// rowBlock is the block of a kernel that has a warp for each row of at most 32 *
// kept chunks, and else a whole block of at most 256 threads.
func rowBlock(chunks int) driver.Dim {
	if chunks <= 32*kept {
		return driver.Dim{X: 32, Y: 8}
	}
	return driver.Dim{X: min(256, roundUp(ceil(chunks, kept), 32)), Y: 1}
}

// maxParts bounds the blocks that a sum over rows is cut into: about 4 for each of
// 132 multiprocessors. It is a constant, so that bits do not depend on the device.
const maxParts = 512

// partition cuts rows into parts of span rows, a multiple of those that a block has
// at a time.
func partition(rows, together int) (span, parts int) {
	span = roundUp(max(1, ceil(rows, maxParts)), together)
	return span, ceil(rows, span)
}

// launcher launches kernels of a source, and keeps the first error.
type launcher struct {
	*engine.Call
	src driver.Source
	err error
}

func (l *launcher) launch(name string, grid, block driver.Dim, args ...any) {
	if l.err != nil {
		return
	}
	var f *driver.Function
	if f, l.err = l.Device.Function(l.src, name); l.err == nil {
		l.Launch(f, grid, block, 0, args...)
	}
}

// fold launches the second stage of a sum over rows: out = the sum of the parts.
func (l *launcher) fold(name string, part, out driver.Pointer, parts, columns int) {
	l.launch(name, driver.Dim{X: ceil(columns, 16)}, driver.Dim{X: 16, Y: 32}, part, out, parts, columns)
}

// bind makes a Bind that launches kernels of src.
func bind(src driver.Source, do func(l *launcher)) func(*engine.Call) error {
	return func(c *engine.Call) error {
		l := &launcher{Call: c, src: src}
		do(l)
		return l.err
	}
}
