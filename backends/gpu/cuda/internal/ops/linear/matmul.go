package linear

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// matMulOf is the product of a matmul node, without its memory.
func matMulOf(n *graph.Node) product {
	a, z := n.Attr.(graph.MatMulAttr), n.Out[0].Shape
	r := len(z)
	last := func(t tensor.Type) matrix { return dense(0, t.DType, t.Shape[r-2], t.Shape[r-1]) }
	return product{
		x: last(n.In[0].Type()), y: last(n.In[1].Type()), z: last(n.Out[0]),
		transX: a.TransX, transY: a.TransY, batch: z[:r-2].Numel(),
	}
}

// matMulType is the type that cuBLASLt multiplies the operands of p in: bf16 where
// one of its values has no more than that anyway, or else f32.
func matMulType(p product) tensor.DType {
	if p.x.t == tensor.BF16 || p.y.t == tensor.BF16 || p.z.t == tensor.BF16 {
		return tensor.BF16
	}
	return tensor.F32
}

// matMulRoom is the memory for operands that are of another type.
func matMulRoom(p product) []int {
	sizes := []int{0, 0}
	if t := matMulType(p); !p.small() {
		for i, m := range []matrix{p.x, p.y} {
			if m.t != t {
				sizes[i] = p.batch * m.rows * m.cols * t.Bytes()
			}
		}
	}
	return sizes
}

func matMul() engine.Kernel {
	return engine.Kernel{
		Narrow: func(n *graph.Node) (in, out []bool) {
			return []bool{true, n.In[1].Type().DType == tensor.F32}, []bool{true}
		},
		Scratch: func(n *graph.Node) int { return room(matMulRoom(matMulOf(n))) },
		Bind: func(c *engine.Call) error {
			b, p := bind(c), matMulOf(c.Node)
			p.x.at, p.y.at, p.z.at = c.In[0], c.In[1], c.Out[0]
			if !b.own(p) {
				t, tmp := matMulType(p), split(c.Scratch, matMulRoom(p))
				p.x, p.y = b.convert(p.x, t, tmp[0], p.batch), b.convert(p.y, t, tmp[1], p.batch)
			}
			b.multiply(p)
			return b.err
		},
	}
}
