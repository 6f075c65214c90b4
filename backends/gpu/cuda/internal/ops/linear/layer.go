package linear

import (
	"strings"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// layer multiplies rows of x [n,k] by the transpose of a weight [m,k], of codes or
// of floats, and takes cotangents back to both. It works on so many rows at a time,
// and has memory for those.
type layer struct {
	k, m     int
	rows     int
	onCodes  bool
	exact    bool // activations of 8 bits
	gradient bool
	x, g     tensor.DType // of activations, i8 if they come quantized, and of cotangents
	element  int          // bytes of one of a dense operand, at most

	w      matrix // of floats
	weight weight // of codes

	q, unit driver.Pointer // int8 rows of x and their scales
	hat     driver.Pointer // x as it is multiplied in the gradient
	cot     driver.Pointer // cotangents as they are
	wide    matrix         // the weight as it is
}

// latent reports whether n is of a layer whose weight has a gradient, taken straight
// through, beside that of its scales.
func latent(n *graph.Node) bool { return strings.HasPrefix(n.Op.Name, "bitlinear") }

// codesOperand is that of the codes of a layer's weight, 0 where it is of floats.
func codesOperand(n *graph.Node) int {
	switch _, shared := n.Attr.(quantized.Reader); {
	case shared, latent(n):
		return 2
	case strings.HasPrefix(n.Op.Name, "codebook"):
		return 1
	}
	return 0
}

// linearAttr is the attribute of a layer on codes.
func linearAttr(n *graph.Node) graph.LinearAttr {
	if r, ok := n.Attr.(quantized.Reader); ok {
		return r.LinearAttr
	}
	return n.Attr.(graph.LinearAttr)
}

// activations are rows that a layer multiplies: numbers, or int8 with a unit for
// each row (package quantized).
type activations struct {
	matrix
	unit driver.Pointer
}

func (x activations) quantized() bool { return x.t == tensor.I8 }

// slice is rows lo to hi.
func (x activations) slice(lo, hi int) activations {
	x.matrix = x.matrix.slice(lo, hi)
	x.unit += driver.Pointer(4 * lo)
	return x
}

// layerOf describes the layer of node n, which multiplies at most rows rows at a
// time. g is the type of its cotangents.
func layerOf(n *graph.Node, rows int, gradient bool, g tensor.DType) *layer {
	x := n.In[0].Type()
	l := &layer{rows: min(rows, x.Shape[0]), gradient: gradient, x: x.DType, g: g, element: denseBytes(n)}
	if i := codesOperand(n); i > 0 {
		l.onCodes, l.weight, l.exact = true, weightOf(n, i), linearAttr(n).ActBits == 8
		l.m, l.k = l.weight.m, l.weight.k
		return l
	}
	w := n.In[1].Type()
	l.m, l.k, l.w = w.Shape[0], w.Shape[1], dense(0, w.DType, w.Shape[0], w.Shape[1])
	return l
}

// input is all of the layer's rows.
func (l *layer) input(c *engine.Call) activations {
	n := c.Node.In[0].Dim(0)
	if l.x == tensor.I8 {
		return activations{matrix{at: c.In[0], t: tensor.I8, rows: n, cols: l.k, stride: l.weight.padded()}, c.In[1]}
	}
	return activations{matrix: dense(c.In[0], l.x, n, l.k)}
}

// floats is the product of a layer of floats.
func (l *layer) floats() product {
	return product{x: dense(0, l.x, l.rows, l.k), y: l.w, z: dense(0, tensor.F32, l.rows, l.m), transY: true, batch: 1}
}

// raw reports whether floats are multiplied as they lie, by kernels that take any
// type.
func (l *layer) raw(b *binding) bool { return !l.onCodes && !l.gradient && b.own(l.floats()) }

// sizes are those of the layer's memory.
func (l *layer) sizes() []int {
	var q, unit, hat, cot, wide int
	if l.exact && l.x != tensor.I8 {
		q, unit = l.rows*l.weight.padded(), 4*l.rows
	}
	switch {
	case !l.gradient && (l.exact || !l.onCodes && l.floats().small()):
		return []int{q, unit, 0, 0, 0}
	case l.exact:
		hat = l.rows * l.k * l.element
	case l.x == tensor.F32:
		hat = l.rows * l.k * 2 // where the precision is bf16
	}
	if l.gradient && l.g == tensor.F32 {
		cot = l.rows * l.m * 2
	}
	wide = l.paddedRows() * l.k * l.element
	if !l.onCodes && l.w.t == tensor.F32 {
		wide = l.paddedRows() * l.k * 2
	}
	return []int{q, unit, hat, cot, wide}
}

// paddedRows is how many rows of a dense weight there is memory for.
func (l *layer) paddedRows() int { return roundUp(l.m, 8) }

// prepare gives the layer its operands and memory, and makes the dense weight.
func (l *layer) prepare(b *binding, memory []driver.Pointer) {
	l.q, l.unit, l.hat, l.cot = memory[0], memory[1], memory[2], memory[3]
	wide := dense(memory[4], b.dense, l.m, l.k)
	if !l.onCodes {
		l.w.at = b.In[1]
		l.wide = l.w
		if !l.raw(b) {
			l.wide = b.convert(l.w, b.dense, wide.at, 1)
		}
		return
	}
	i := codesOperand(b.Node)
	l.weight.codes, l.weight.scales = b.In[i], b.In[i+1]
	if l.gradient || !l.exact {
		b.dequantize(l.weight, wide)
		l.wide = wide
	}
}

// forward makes y of rows of x.
func (l *layer) forward(b *binding, x activations, y matrix) {
	if l.exact {
		b.multiplyInt8(l.weight, x, l.q, l.unit, y)
		return
	}
	floats := x.matrix
	if !l.raw(b) {
		floats = b.convert(floats, b.dense, l.hat, 1)
	}
	b.multiply(product{x: floats, y: l.wide, z: y, transY: true, batch: 1})
}

// backward makes dx of the cotangents g of rows of x, and dw f32 [m,k], which is
// added to if add says so. The quantizers count as the identity: dx = g W, dw = g^T x
// with W and x as they were multiplied. g may have columns of zeros behind its own,
// if as many rows of zeros follow the dense weight.
func (l *layer) backward(b *binding, x activations, g, dx, dw matrix, add bool) {
	g = b.convert(g, b.dense, l.cot, 1)
	wide := l.wide
	wide.rows = g.cols
	b.multiply(product{x: g, y: wide, z: dx, batch: 1})
	if dw.at == 0 {
		return
	}
	g.cols = l.m
	hat := dense(l.hat, b.dense, x.rows, x.cols)
	if l.exact {
		b.fakeQuantize(x, hat)
	} else {
		hat = b.convert(x.matrix, b.dense, l.hat, 1)
	}
	b.multiply(product{x: g, y: hat, z: dw, transX: true, batch: 1, add: add})
}
