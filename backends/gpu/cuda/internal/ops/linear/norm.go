package linear

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
)

// normSizes are those of x [N,C] and w [K,C].
func normSizes(n *graph.Node) (N, C, K int) {
	return n.In[0].Dim(0), n.In[0].Dim(1), n.In[2].Dim(0)
}

// normRows is how many rows a block of norm.cu takes.
const normRows = 32

func normLinear() engine.Kernel {
	return engine.Kernel{
		Narrow: func(*graph.Node) (in, out []bool) { return only(3, 0), []bool{true} },
		Bind: func(c *engine.Call) error {
			b := bind(c)
			N, C, K := normSizes(c.Node)
			b.launch(normSource, "normlinear", ceil(N, normRows), 256, 0, c.In[0], c.In[1], c.In[2], c.Out[0],
				uint64(N), C, K, float32(c.Node.Attr.(graph.NormAttr).Eps), narrow(c.Node.In[0].Type().DType), narrow(c.Node.Out[0].DType))
			return b.err
		},
	}
}

// normSlices is in how many slices N rows are added up, so that there are blocks
// enough for a device.
func normSlices(N int) int { return min(256, ceil(N, 64)) }

// normRoom is the memory of a pullback: cotangents by the inverse root mean square,
// and the slices of the gradient of the weight before the gain.
func normRoom(n *graph.Node) []int {
	N, C, K := normSizes(n)
	return []int{4 * N * K, 4 * normSlices(N) * K * C}
}

func normLinearVJP() engine.Kernel {
	return engine.Kernel{
		Narrow:  func(*graph.Node) (in, out []bool) { return only(4, 0, 3), only(3, 0) },
		Scratch: func(n *graph.Node) int { return room(normRoom(n)) },
		Bind: func(c *engine.Call) error {
			b, n := bind(c), c.Node
			N, C, K := normSizes(n)
			slices, memory := normSlices(N), split(c.Scratch, normRoom(n))
			x, gain, w, rg, part := c.In[0], c.In[1], c.In[2], memory[0], memory[1]
			half := narrow(n.In[0].Type().DType)
			b.launch(normSource, "normlinear_dx", ceil(N, normRows), 256, 0, x, gain, w, c.In[3], c.Out[0], rg,
				uint64(N), C, K, float32(n.Attr.(graph.NormAttr).Eps), half, narrow(n.In[3].Type().DType), narrow(n.Out[0].DType))
			b.launch(normSource, "normlinear_part", ceil(C, 256)*ceil(K, 8)*slices, 64, 0, x, rg, part, uint64(N), C, K, slices, half)
			b.launch(normSource, "normlinear_sum", ceil(K*C, 128), 128, 0, part, uint64(K*C), slices)
			b.launch(normSource, "normlinear_dw", ceil(C, 128), 128, 0, part, gain, w, c.Out[1], c.Out[2], C, K)
			return b.err
		},
	}
}
