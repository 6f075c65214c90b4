package joined

import (
	_ "embed"
	"fmt"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/attention"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/linear"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

//go:embed joined.cu
var productCode string

//go:embed row.cuh
var rowHeader string

//go:embed rows.cu
var rowsCode string

//go:embed cache.cu
var cacheCode string

var (
	rowsSource     = withRow()
	productSources = byWidth()
	cacheSource    = attention.WithRope("joined_cache.cu", cacheCode)
)

func byWidth() map[int]driver.Source {
	all := linear.ByWidth("joined", productCode)
	for _, src := range all {
		src.Headers["rope.cuh"] = attention.RopeHeader
		src.Headers["row.cuh"] = rowHeader
	}
	return all
}

func withRow() driver.Source {
	src := linear.WithCodes("joined_rows.cu", rowsCode)
	src.Headers["row.cuh"] = rowHeader
	return src
}

// Sources lists what the kernels are compiled from.
func Sources() []driver.Source {
	all := []driver.Source{cacheSource, rowsSource}
	for _, bits := range []int{1, 2, 4, 8} {
		all = append(all, productSources[bits])
	}
	return all
}

// What joined.cu has too, and how many blocks a product has at most: those that a
// large device runs at a time, since each of them has its rows to make.
const (
	threads   = 128
	columns   = 4 * 2 // of a block
	maxBlocks = 1024
)

// maxShared is the shared memory that every device gives a block unasked, less what
// the kernels declare themselves.
const maxShared = 47 << 10

// shape is the rows and columns that the products of a node are of.
type shape struct {
	n, k    int
	from    int // rows of what they are made of
	weights []linear.Weight
}

func shapeOf(n *graph.Node) shape {
	p := n.Attr.(*product)
	var s shape
	for i := range p.Weights {
		codes, scales := n.In[p.weights()+2*i].Type(), n.In[p.weights()+2*i+1].Shape()
		s.weights = append(s.weights, linear.WeightOf(codes, scales, p.Levels))
	}
	s.k = s.weights[0].K
	s.from = n.In[p.rows()].Shape().Numel() / s.k
	if p.From == read {
		s.from = n.In[p.rows()].Dim(0)
	}
	s.n = s.from
	if p.Picked {
		s.n = n.In[p.rows()-1].Shape().Numel()
	}
	return s
}

// rowBytes is the shared memory in which a row is made.
func (s shape) rowBytes() int { return 4 * s.k }

// own reports whether each block makes the rows.
func (s shape) own() bool {
	return s.n <= linear.OwnRows && s.rowBytes()+s.n*s.weights[0].Padded() <= maxShared
}

// blocks is the grid of a product.
func (s shape) blocks() driver.Dim {
	count := 0
	for _, w := range s.weights {
		count += ceil(w.M, 2)
	}
	return driver.Dim{X: min(maxBlocks, ceil(2*count, columns))}
}

func ceil(n, by int) int { return (n + by - 1) / by }

// unitAt is where the scales of rows follow their int8 codes in scratch memory.
func (s shape) unitAt() int { return ceil(s.n*s.weights[0].Padded(), 256) * 256 }

func productKernel() engine.Kernel {
	return engine.Kernel{
		Narrow: widths,
		Scratch: func(n *graph.Node) int {
			s := shapeOf(n)
			if s.own() {
				return 0
			}
			return s.unitAt() + 4*s.n
		},
		Bind: bind,
	}
}

// widths says what may be bf16: what rows are made of but for coefficients and gains,
// what results are added to, and results but for the caches.
func widths(n *graph.Node) (in, out []bool) {
	p := n.Attr.(*product)
	in, out = make([]bool, len(n.In)), make([]bool, len(n.Out))
	in[p.rows()] = true
	if p.From == gated {
		in[p.rows()+1] = true
	}
	if p.To == added || p.To == mixed {
		in[p.rest()] = true
	}
	for i := range out {
		out[i] = p.To != heads || i == 0
	}
	return in, out
}

// bind launches the product, after what makes its rows where it does not do so itself.
func bind(c *engine.Call) error {
	p, s := c.Node.Attr.(*product), shapeOf(c.Node)
	padded, rows, grid := s.weights[0].Padded(), rowArgs(c, p, s), s.blocks()
	end, err := endArgs(c, p)
	if err != nil {
		return err
	}
	rest := append(append(partArgs(c, p, s), end...), s.n, padded)
	if s.own() {
		return launch(c, s.source(), s.kernel("joined_own", s.n), grid, s.rowBytes()+s.n*padded, append(rows, rest...))
	}
	few := 4
	if s.n > few {
		few = linear.FewRows
	}
	q, unit := c.Scratch, c.Scratch+driver.Pointer(s.unitAt())
	if err := launch(c, rowsSource, "joined_rows", driver.Dim{X: s.n}, s.rowBytes(), append(rows, q, unit, s.k, padded)); err != nil {
		return err
	}
	return launch(c, s.source(), s.kernel("joined_few", few), grid, 0, append([]any{q, unit}, rest...))
}

// source is that of kernels for the width of the codes, kernel the name of one for so
// many rows.
func (s shape) source() driver.Source { return productSources[s.weights[0].Bits] }

func (s shape) kernel(name string, rows int) string {
	return fmt.Sprintf("%s_%d_%d", name, rows, s.weights[0].Bits)
}

// launch appends a launch of blocks of the size that all kernels of this package but
// cache.cu have.
func launch(c *engine.Call, src driver.Source, name string, grid driver.Dim, shared int, args []any) error {
	f, err := c.Device.Function(src, name)
	if err != nil {
		return err
	}
	c.Launch(f, grid, driver.Dim{X: threads}, shared, args...)
	return nil
}

// rowArgs are the parameters ROWS of joined.cu.
func rowArgs(c *engine.Call, p *product, s shape) []any {
	var b, gain, picked, failure driver.Pointer
	var streams, step int
	var node int32
	at := p.rows()
	in, narrow := c.In[at:], flag(c.Node.In[at].Type())
	if p.Picked {
		picked = c.In[at-1]
		failure, node = c.Failure()
	}
	switch p.From {
	case gated:
		b = in[1]
		narrow |= flag(c.Node.In[at+1].Type()) << 1
	case normed:
		gain = in[1]
	case read:
		b, gain = in[1], in[2]
		streams, step = c.Node.In[at].Dim(1), stepOf(c.Node.In[at+1], 1)
	}
	return []any{int(p.From), in[0], b, gain, picked, s.from, streams, step, float32(p.Eps), narrow, failure, node}
}

// flag is 1 for bf16.
func flag(t tensor.Type) uint32 {
	if t.DType == tensor.BF16 {
		return 1
	}
	return 0
}

// storage is how joined.cu numbers types.
func storage(t tensor.Type) int {
	return map[tensor.DType]int{tensor.F32: 0, tensor.BF16: 1, tensor.F16: 2}[t.DType]
}

// stepOf is how many coefficients lie between a row's and the next row's: 0 if all
// rows have the same, which are of so many dimensions.
func stepOf(v graph.Value, rank int) int {
	if s := v.Shape(); len(s) > rank {
		return s[len(s)-rank:].Numel()
	}
	return 0
}

// partArgs are the parameters PARTS. A weight that is not there has no columns.
func partArgs(c *engine.Call, p *product, s shape) []any {
	var args []any
	for i := range maxWeights {
		if i >= p.Weights {
			args = append(args, driver.Pointer(0), driver.Pointer(0), driver.Pointer(0), 0, 0, 0)
			continue
		}
		w, at := s.weights[i], p.weights()+2*i
		args = append(args, c.In[at], c.In[at+1], c.Out[i], w.M, w.ScaleRow, storage(c.Node.Out[i]))
	}
	w := s.weights[0]
	return append(args, w.K, w.Group, w.Span(), w.Book[0], w.Book[1], w.Book[2], w.Book[3])
}

// endArgs are the parameters END. What changes the caches begins with the copies that
// take them along where they may not be changed where they lie.
func endArgs(c *engine.Call, p *product) ([]any, error) {
	var s, h, post, pos, turns, failure driver.Pointer
	var streams, hstep, pstep, length, size, limit int
	var narrow, node int32
	at := p.rest()
	switch p.To {
	case added:
		s, narrow = c.In[at], int32(flag(c.Node.In[at].Type()))
	case mixed:
		s, narrow, h, post = c.In[at], int32(flag(c.Node.In[at].Type())), c.In[at+1], c.In[at+2]
		streams, hstep, pstep = c.Node.In[at].Dim(1), stepOf(c.Node.In[at+1], 2), stepOf(c.Node.In[at+2], 1)
	case heads:
		q := c.Node.Out[0].Shape
		var err error
		if turns, err = c.Constant(attention.Turns(p.RoPE, q[3])); err != nil {
			return nil, err
		}
		pos, length, size, limit = c.In[2], q[1], q[3], c.Node.Out[1].Shape[1]
		failure, node = c.Failure()
		for i := 1; i <= 2; i++ {
			c.Copy(c.Out[i], c.In[i-1], c.Node.Out[i].Bytes())
		}
	}
	return []any{int(p.To), s, narrow, streams, h, post, hstep, pstep, pos, turns, length, size, limit, failure, node}, nil
}
