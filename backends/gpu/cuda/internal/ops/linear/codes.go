package linear

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// book is the levels of codes 0 to 15 as kernels take them, four a word.
func book(levels []int8) [4]uint32 {
	var w [4]uint32
	for i, l := range levels {
		w[i/4] |= uint32(uint8(l)) << (8 * (i % 4))
	}
	return w
}

// bitsOf is the width of a code.
func bitsOf(d tensor.DType) int { return 8 / d.Block() }

// rowsOf views a shape as rows of its last dimension.
func rowsOf(s tensor.Shape) (rows, width int) {
	if len(s) == 0 {
		return 1, 1
	}
	return s[:len(s)-1].Numel(), s[len(s)-1]
}

func encode() engine.Kernel {
	return engine.Kernel{Bind: func(c *engine.Call) error {
		b, out := bind(c), c.Node.Out[0]
		levels := c.Node.Attr.(graph.CodeAttr).Levels
		if out.DType == tensor.I8 {
			n := out.Shape.Numel()
			b.launch(codesSource, "linear_encode8", ceil(n, 256), 256, 0, c.In[0], c.Out[0], uint64(n))
			return b.err
		}
		rows, width := rowsOf(out.Shape)
		w := book(levels)
		b.launch(codesSource, "linear_encode", ceil(out.Bytes(), 256), 256, 0,
			c.In[0], c.Out[0], uint64(rows), width, bitsOf(out.DType), len(levels), w[0], w[1], w[2], w[3])
		return b.err
	}}
}

func decode() engine.Kernel {
	return engine.Kernel{
		Narrow: func(*graph.Node) (in, out []bool) { return []bool{false}, []bool{true} }, // no level has more than 8 bits
		Bind: func(c *engine.Call) error {
			b, codes := bind(c), c.Node.In[0].Type()
			rows, width := rowsOf(codes.Shape)
			w := book(c.Node.Attr.(graph.CodeAttr).Levels)
			b.launch(codesSource, "linear_decode", ceil(rows*width, 256), 256, 0,
				c.In[0], c.Out[0], uint64(rows), width, bitsOf(codes.DType), w[0], w[1], w[2], w[3], narrow(c.Node.Out[0].DType))
			return b.err
		},
	}
}

// weight is what stands for f32 [m,k]: codes, and a scale for each group of columns
// of each row, or one for all.
type weight struct {
	codes, scales driver.Pointer
	m, k          int
	group         int
	scaleRow      int // scales from a row to the next, 0 where all share one
	bits          int
	book          [4]uint32
}

// weightOf describes the weight whose codes are operand i of n, and its scales the
// next, without its memory.
func weightOf(n *graph.Node, i int) weight {
	return weightOfTypes(n.In[i].Type(), n.In[i+1].Shape(), linearAttr(n).Levels)
}

func weightOfTypes(codes tensor.Type, scales tensor.Shape, levels []int8) weight {
	w := weight{
		m: codes.Shape[0], k: codes.Shape[1], group: codes.Shape[1] / scales[1],
		bits: bitsOf(codes.DType), book: book(levels),
	}
	if scales[0] == w.m {
		w.scaleRow = scales[1]
	}
	return w
}

// args are the parameters WEIGHT of codes.cuh.
func (w weight) args() []any {
	return []any{w.codes, w.scales, w.m, w.k, w.group, w.scaleRow, w.book[0], w.book[1], w.book[2], w.book[3]}
}

// dequantize makes the weight itself.
func (b *binding) dequantize(w weight, out matrix) {
	b.launch(codesSource, "linear_dequantize", ceil(w.m*ceil(w.k, 8), 256), 256, 0, append(w.args(), w.bits, out.at, narrow(out.t))...)
}

// scaleGradRoom is the memory for the gradient of w's scales before it is added
// up over the rows.
func scaleGradRoom(w weight) int {
	if w.scaleRow > 0 {
		return 0
	}
	return 4 * w.m * (w.k / w.group)
}

// scaleGrad makes the gradient of the scales from that of the weight, d f32 [m,k].
// One scale for all has a single group.
func (b *binding) scaleGrad(w weight, d, out, part driver.Pointer) {
	to := out
	if w.scaleRow == 0 {
		to = part
	}
	groups := w.m * (w.k / w.group)
	b.launch(codesSource, "linear_scale_grad", ceil(groups, 8), 256, 0, append(w.args(), w.bits, d, to)...)
	if w.scaleRow == 0 {
		b.launch(codesSource, "linear_sum", 1, 256, 0, part, out, uint64(groups))
	}
}

// padded is the length of a row of quantized activations.
func (w weight) padded() int { return quantized.Padded(w.k) }

// rowThreads is how many threads share a row of so many: of many rows as few as hold
// it in their registers, of a few, which would not fill the device, more.
func rowThreads(rows, width int) int {
	each := 4
	if rows > 512 {
		each = 16
	}
	return min(256, roundUp(ceil(width, each), 32))
}

// quantize makes int8 rows and their scales of x.
func (b *binding) quantize(x matrix, padded int, q, unit driver.Pointer) {
	b.launch(codesSource, "linear_quantize", x.rows, rowThreads(x.rows, x.cols), 0, x.at, q, unit, x.cols, padded, narrow(x.t))
}

// quantizeRows is quantized.Rows.
func quantizeRows() engine.Kernel {
	return engine.Kernel{
		Narrow: func(*graph.Node) (in, out []bool) { return []bool{true}, []bool{false, false} },
		Bind: func(c *engine.Call) error {
			b, x := bind(c), c.Node.In[0].Type()
			b.quantize(dense(c.In[0], x.DType, x.Shape[0], x.Shape[1]), c.Node.Out[0].Shape[1], c.Out[0], c.Out[1])
			return b.err
		},
	}
}

// fakeQuantize makes the numbers that those stand for.
func (b *binding) fakeQuantize(x activations, out matrix) {
	if x.quantized() {
		b.launch(codesSource, "linear_rows", ceil(x.rows*ceil(x.cols, 8), 256), 256, 0, x.at, x.unit, out.at, x.rows, x.cols, x.stride, narrow(out.t))
		return
	}
	b.launch(codesSource, "linear_fake_quantize", x.rows, rowThreads(x.rows, x.cols), 0, x.at, out.at, x.cols, narrow(x.t), narrow(out.t))
}
