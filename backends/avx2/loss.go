package avx2

import (
	"fmt"

	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
)

func addLosses(t host.Table) {
	t.Add("crossentropy", crossEntropy())
	t.Add("crossentropy.vjp", crossEntropyVJP())
}

// checkTargets fails the run when a target is outside the vocabulary.
func checkTargets(c *host.Call, targets []int32, vocab int) host.Loop {
	return host.Loop{Items: 1, Do: func(_, _ int) {
		for i, t := range targets {
			if int(t) >= vocab {
				c.Fail(fmt.Errorf("target %d (row %d) is out of range, wants less than %d", t, i, vocab))
				return
			}
		}
	}}
}

// nllRows sets z to the cross-entropy of the rows of x, each of v logits. A
// target outside the row gives 0.
func nllRows(z, x []float32, targets []int32, v int) host.Loop {
	return loop(len(z), 5*v, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			t := int(targets[i])
			if t < 0 || t >= v {
				z[i] = 0
				continue
			}
			row := x[i*v : (i+1)*v]
			z[i] = simd.LogSumExpRow(row) - row[t]
		}
	})
}

// nllGradRows sets dx, which may be x, to the gradient of nllRows for the
// cotangent g.
func nllGradRows(dx, x []float32, targets []int32, g []float32, v int) host.Loop {
	return loop(len(g), 10*v, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row, to, t := x[i*v:(i+1)*v], dx[i*v:(i+1)*v], int(targets[i])
			if t < 0 || t >= v {
				clear(to)
				continue
			}
			simd.CrossEntropyGradRow(to, row, simd.LogSumExpRow(row), t, g[i])
		}
	})
}

func crossEntropy() host.Kernel {
	return host.Kernel{Supports: wide, Bind: func(c *host.Call) []host.Loop {
		x, targets, z := c.In[0].F32(), c.In[1].I32(), c.Out[0].F32()
		v := c.In[0].Shape[1]
		return []host.Loop{checkTargets(c, targets, v), nllRows(z, x, targets, v)}
	}}
}

func crossEntropyVJP() host.Kernel {
	return host.Kernel{Supports: wide, Bind: func(c *host.Call) []host.Loop {
		x, targets, g, dx := c.In[0].F32(), c.In[1].I32(), c.In[2].F32(), c.Out[0].F32()
		v := c.In[0].Shape[1]
		return []host.Loop{checkTargets(c, targets, v), nllGradRows(dx, x, targets, g, v)}
	}}
}
