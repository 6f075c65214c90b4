package avx2

import (
	"fmt"

	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// plan describes the attention of a node whose first operands are q and k.
func (k parallel) plan(n *graph.Node) simd.Attention {
	q, keys := n.In[0].Shape(), n.In[1].Shape()
	return simd.Attention{B: q[0], T: q[1], S: keys[1], H: q[2], KV: keys[2], D: q[3], Workers: k.workers, ISA: k.isa, Half: n.In[1].Type().DType == tensor.F16}
}

// storedRows are the elements of t, f32 or f16.
func storedRows(t tensor.Tensor) simd.Rows {
	if t.DType == tensor.F16 {
		return simd.Rows{F16: t.U16()}
	}
	return simd.Rows{F32: t.F32()}
}

// checkPositions fails the run when a query lies beyond the keys.
func checkPositions(c *host.Call, pos []int32, T, S int) host.Loop {
	return host.Loop{Items: 1, Do: func(_, _ int) {
		for b, p := range pos {
			if p < 0 || int(p)+T > S {
				c.Fail(fmt.Errorf("position %d of sequence %d is out of range: %d queries, %d keys", p, b, T, S))
				return
			}
		}
	}}
}

func (k parallel) attention() host.Kernel {
	return host.Kernel{
		Scratch: func(n *graph.Node) int {
			a := k.plan(n)
			return a.ScratchBytes()
		},
		Bind: func(c *host.Call) []host.Loop {
			a, pos := k.plan(c.Node), c.In[3].I32()
			run := a.Phases(c.In[0].F32(), storedRows(c.In[1]), storedRows(c.In[2]), pos, c.Out[0].F32(), c.Scratch)
			return append([]host.Loop{checkPositions(c, pos, a.T, a.S)}, loops(run)...)
		},
	}
}

// attentionVJP takes f32 keys alone: nobody trains on a cache.
func (k parallel) attentionVJP() host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool { return n.In[1].Type().DType == tensor.F32 },
		Scratch: func(n *graph.Node) int {
			a := k.plan(n)
			return a.GradScratchBytes()
		},
		Bind: func(c *host.Call) []host.Loop {
			a, pos := k.plan(c.Node), c.In[3].I32()
			run := a.GradPhases(c.In[0].F32(), c.In[1].F32(), c.In[2].F32(), pos, c.In[4].F32(),
				c.Out[0].F32(), c.Out[1].F32(), c.Out[2].F32(), c.Scratch)
			return append([]host.Loop{checkPositions(c, pos, a.T, a.S)}, loops(run)...)
		},
	}
}
