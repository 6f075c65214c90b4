package linear

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// minRows is how many rows a block has at least.
const minRows = 32

// wholeTiles rounds the rows of a block down to tiles of products, so that no block
// but the last has a rest, and each begins where vectors are aligned.
func wholeTiles(rows int) int {
	if rows >= largeTile {
		return rows &^ (largeTile - 1)
	}
	return rows &^ (minRows - 1)
}

// blocks cuts n rows into blocks of at most rows rows and calls do for each.
func blocks(n, rows int, do func(lo, hi int)) {
	for lo := 0; lo < n; lo += rows {
		do(lo, min(n, lo+rows))
	}
}

// only has n elements of which those at are true.
func only(n int, at ...int) []bool {
	v := make([]bool, n)
	for _, i := range at {
		v[i] = true
	}
	return v
}

// onCodes is bitlinear and codebookmatmul.
func onCodes() engine.Kernel {
	of := func(n *graph.Node) *layer { return layerOf(n, n.In[0].Dim(0), false, tensor.F32) }
	return engine.Kernel{
		Narrow:  func(n *graph.Node) (in, out []bool) { return only(len(n.In), 0), []bool{true} },
		Scratch: func(n *graph.Node) int { return room(of(n).sizes()) },
		Bind: func(c *engine.Call) error {
			b, l := bind(c), of(c.Node)
			l.prepare(b, split(c.Scratch, l.sizes()))
			x := l.input(c)
			l.forward(b, x, dense(c.Out[0], c.Node.Out[0].DType, x.rows, l.m))
			return b.err
		},
	}
}

// gradientBlock is how many elements of activations or cotangents have copies for
// the gradient at a time. The gradient of a weight is added up over the blocks. A
// variable for tests.
var gradientBlock = 1 << 25

// linearGradient is the layer of a pullback with its memory.
type linearGradient struct {
	*layer
	latent bool // the weight's gradient is a result, else that of the scales
}

func linearGradientOf(n *graph.Node) linearGradient {
	g := n.In[len(n.In)-1].Type()
	rows := wholeTiles(max(minRows, gradientBlock/max(n.In[codesOperand(n)].Dim(1), g.Shape[1])))
	return linearGradient{layerOf(n, rows, true, g.DType), latent(n)}
}

// sizes adds to those of the layer what the gradient of scales takes: that of the
// weight, and its parts.
func (l linearGradient) sizes() []int {
	sizes := l.layer.sizes()
	if l.latent || !l.onCodes {
		return sizes
	}
	return append(sizes, 4*l.m*l.k, scaleGradRoom(l.weight))
}

// weightGradient is where the weight's gradient goes: the result after that of x,
// or memory of ours.
func (l linearGradient) weightGradient(out []driver.Pointer, memory []driver.Pointer) driver.Pointer {
	switch {
	case l.latent:
		return out[1]
	case l.onCodes:
		return memory[5]
	case len(out) > 1:
		return out[1]
	}
	return 0 // a weight of f16 has no gradient
}

// finish makes the gradient of the scales, which is zero where the weight's is
// taken straight through.
func (l linearGradient) finish(b *binding, dw driver.Pointer, out, memory []driver.Pointer) {
	switch {
	case b.err != nil || !l.onCodes:
	case l.latent:
		b.Fill32(out[2], 0, max(1, l.m*l.weight.scaleRow))
	default:
		b.scaleGrad(l.weight, dw, out[1], memory[6])
	}
}

// onCodesVJP is the pullback of onCodes.
func onCodesVJP() engine.Kernel {
	return engine.Kernel{
		Narrow: func(n *graph.Node) (in, out []bool) {
			return only(len(n.In), 0, len(n.In)-1), only(len(n.Out), 0)
		},
		Scratch: func(n *graph.Node) int { return room(linearGradientOf(n).sizes()) },
		Bind: func(c *engine.Call) error {
			b, l := bind(c), linearGradientOf(c.Node)
			memory := split(c.Scratch, l.sizes())
			l.prepare(b, memory)
			x := l.input(c)
			n := x.rows
			g := dense(c.In[len(c.In)-1], l.g, n, l.m)
			dx := dense(c.Out[0], c.Node.Out[0].DType, n, l.k)
			dw := dense(l.weightGradient(c.Out, memory), tensor.F32, l.m, l.k)
			blocks(n, l.rows, func(lo, hi int) {
				l.backward(b, x.slice(lo, hi), g.slice(lo, hi), dx.slice(lo, hi), dw, lo > 0)
			})
			l.finish(b, dw.at, c.Out, memory)
			return b.err
		},
	}
}
