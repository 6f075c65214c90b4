package attention

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func softmax() engine.Kernel {
	return engine.Kernel{
		Narrow: func(*graph.Node) (in, out []bool) { return []bool{true}, []bool{true} },
		Bind: func(c *engine.Call) error {
			x, z := c.Node.In[0].Type(), c.Node.Out[0]
			return bind(c, softmaxRows(x.Shape, c.In[0], 0, c.Out[0], widths(x, tensor.Type{}, z)))
		},
	}
}

func softmaxPullback() engine.Kernel {
	return engine.Kernel{
		Narrow: func(*graph.Node) (in, out []bool) { return []bool{true, true}, []bool{true} },
		Bind: func(c *engine.Call) error {
			x, g := c.Node.In[0].Type(), c.Node.In[1].Type()
			return bind(c, softmaxRows(x.Shape, c.In[0], c.In[1], c.Out[0], widths(x, g, c.Node.Out[0])))
		},
	}
}

// softmaxRows launches softmax over the last axis of s, or its pullback where g is
// not 0.
func softmaxRows(s tensor.Shape, x, g, out driver.Pointer, narrow uint32) work {
	const warpMost, threads = 1024, 256 // elements of a row that a warp has alone
	width := s[len(s)-1]
	rows := s.Numel() / width
	name, blocks, shared := "softmax_warp", ceilDiv(rows, threads/32), 0
	if width > warpMost {
		name, blocks, shared = "softmax_block", rows, 33*4
	}
	if width%4 == 0 && (x|g|out)%16 == 0 {
		name += "_4"
	} else {
		name += "_1"
	}
	return work{softmaxSource, name, blocks, threads, shared, []any{x, g, out, uint64(rows), uint64(width), narrow}}
}
