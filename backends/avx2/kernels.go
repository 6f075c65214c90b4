package avx2

import (
	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
)

// kernels returns the vector kernels.
func (k parallel) kernels() host.Table {
	t := host.Table{}
	addElementwise(t)
	addReductions(t)
	addRows(t)
	addStreams(t)
	k.addNormLinear(t)
	addLosses(t)
	t.Add("matmul", k.matMul())
	t.Add("matmul", k.halfMatMul())
	t.Add("gather", halfGather())
	t.Add("attention", k.attention())
	t.Add("attention.vjp", k.attentionVJP())
	k.addProducts(t, k.anyLevels, k.ternary)
	t.Add("bitlinear.vjp", k.bitLinearVJP())
	k.addHeadLosses(t)
	t.Add("encode", encodeSpaced())
	t.Add("encode", encodeTernary())
	t.Add("encode", encodeBook())
	t.Add("encode", encodeLevels())
	return t
}

// parallel builds the kernels whose working memory grows with the workers, is
// bounded by a block of so many floats of logits, or whose instructions differ.
type parallel struct {
	workers, block int
	isa            simd.ISA
}

// pieceCost is about how many element operations are worth handing out: one or
// two microseconds, several times what a worker that is awake takes to notice.
const pieceCost = 1 << 12

// loop is work on items that cost so many element operations each.
func loop(items, cost int, do func(lo, hi int)) host.Loop {
	return host.Loop{Items: items, Grain: max(1, pieceCost/max(1, cost)), Do: do}
}

// loops turns the phases of a simd kernel into loops.
func loops(phases []simd.Phase) []host.Loop {
	out := make([]host.Loop, len(phases))
	for i, p := range phases {
		out[i] = host.Loop{Items: p.Items, Grain: p.Grain, Do: p.Do}
	}
	return out
}

// rows gives the number of innermost rows of operand 0 of n and their length.
func rows(n *graph.Node) (count, width int) {
	s := n.In[0].Shape()
	width = s[len(s)-1]
	return s.Numel() / width, width
}

// wide reports whether operand 0 of n has rows long enough for vectors.
func wide(n *graph.Node) bool {
	s := n.In[0].Shape()
	return len(s) > 0 && s[len(s)-1] >= 8
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }
