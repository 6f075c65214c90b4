package linear

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// What is made of a head: its loss, the gradient of that, or both of one block of
// logits.
type headResults int

const (
	lossOnly headResults = iota
	gradientOnly
	lossAndGradient
)

// headBlock is how many logits are in memory at a time, as f32: 1 GiB, 5248 rows of a
// vocabulary of 50257. The gradient of the weight is read and written once for each
// block, which for 768 columns is the time of the products of 250 rows; and the
// gradient of x, which has few results for its long sums, has tiles for all processors
// of a large device from 4000 rows on. A variable for tests.
var headBlock = 1 << 28

// headRows is how many rows of n a block has, of logits ld apart. Blocks have about as
// many each.
func headRows(n, ld int) int {
	most := wholeTiles(max(headBlock/ld, minRows))
	each := ceil(n, ceil(n, most))
	if each < largeTile {
		return roundUp(each, minRows)
	}
	return roundUp(each, largeTile)
}

// head is a layer with its loss. The logits of a block of rows are f32, and the
// gradient takes their place, in bf16 where that is the precision: rows of logits
// lie ld elements apart.
type head struct {
	linearGradient
	n, ld   int
	results headResults
}

func headOf(n *graph.Node, r headResults) head {
	v := n.In[max(1, codesOperand(n))].Dim(0)
	ld := roundUp(v, 8)
	rows := headRows(n.In[0].Dim(0), ld)
	// The gradient of the logits is of the layer's own dense type: no copy of it.
	l := layerOf(n, rows, r != lossOnly, tensor.BF16)
	return head{linearGradient{l, latent(n)}, n.In[0].Dim(0), ld, r}
}

// sizes begins with the layer's memory and ends with the logits.
func (h head) sizes() []int {
	sizes := h.layer.sizes()
	if h.results != lossOnly {
		sizes = h.linearGradient.sizes()
	}
	return append(sizes, 4*h.rows*h.ld)
}

// headLoss is linearcrossentropy, bitlinearcrossentropy and codebookcrossentropy,
// their pullbacks and joint ops.
func headLoss(r headResults) engine.Kernel {
	return engine.Kernel{
		Narrow: func(n *graph.Node) (in, out []bool) {
			out = make([]bool, len(n.Out))
			if r != lossOnly {
				out[r.first()] = true
			}
			return only(len(n.In), 0), out
		},
		Scratch: func(n *graph.Node) int { return room(headOf(n, r).sizes()) },
		Bind: func(c *engine.Call) error {
			b, h := bind(c), headOf(c.Node, r)
			memory := split(c.Scratch, h.sizes())
			h.prepare(b, memory)
			h.run(b, memory)
			return b.err
		},
	}
}

// first is the result that is the gradient of x.
func (r headResults) first() int {
	if r == lossAndGradient {
		return 1
	}
	return 0
}

// run goes over the blocks.
func (h head) run(b *binding, memory []driver.Pointer) {
	x := h.input(b.Call)
	logits := matrix{at: memory[len(memory)-1], t: tensor.F32, rows: h.rows, cols: h.m, stride: h.ld}
	if h.results == lossOnly {
		blocks(h.n, h.rows, func(lo, hi int) {
			h.forward(b, x.slice(lo, hi), logits.slice(0, hi-lo))
			h.loss(b, logits, lo, hi)
		})
		return
	}
	out := b.Out[h.results.first():]
	dx := dense(out[0], b.Node.Out[h.results.first()].DType, h.n, h.k)
	dw := dense(h.weightGradient(out, memory), tensor.F32, h.m, h.k)
	d := logits
	if b.dense == tensor.BF16 {
		d.t, d.stride, d.cols = tensor.BF16, 2*h.ld, h.pad(b)
	}
	blocks(h.n, h.rows, func(lo, hi int) {
		h.forward(b, x.slice(lo, hi), logits.slice(0, hi-lo))
		h.loss(b, logits, lo, hi)
		h.backward(b, x.slice(lo, hi), d.slice(0, hi-lo), dx.slice(lo, hi), dw, lo > 0)
	})
	h.finish(b, dw.at, out, memory)
}

// pad puts rows of zeros behind the dense weight, to meet the zeros behind the rows
// of the gradient: the sum over the vocabulary then has a multiple of eight terms, as
// cuBLAS asks for (product.regular). It returns how many.
func (h head) pad(b *binding) int {
	if h.m == h.ld || h.k%8 != 0 || h.wide.at == h.w.at {
		return h.m
	}
	b.Fill32(h.wide.at+driver.Pointer(2*h.m*h.k), 0, (h.ld-h.m)*h.k/2)
	return h.ld
}

// loss makes that of rows lo to hi, whose logits are there, and their gradient in
// the place of them.
func (h head) loss(b *binding, logits matrix, lo, hi int) {
	row := driver.Pointer(4 * lo)
	operands := len(b.In)
	var nll, g driver.Pointer
	if h.results != gradientOnly {
		nll = b.Out[0] + row
	}
	if h.results != lossOnly {
		operands--
		g = b.In[operands] + row
	}
	failure, node := b.Failure()
	b.launch(lossSource, "head_loss", hi-lo, min(512, roundUp(ceil(h.m, 4), 32)), 0, logits.at, b.In[operands-1]+row, nll, g, h.m, h.ld, narrow(b.dense), failure, node)
}
