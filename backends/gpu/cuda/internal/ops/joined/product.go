package joined

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// source is how the rows of a product are made. The numbers are those of joined.cu.
type source int

const (
	plain  source = iota // x
	gated                // silu(gate) * up of gate and up
	normed               // rmsnorm of x and its gain
	read                 // rmsnorm of what is read from streams: streams, coefficients, gain
)

// operands is how many operands rows of each kind are made of.
var operands = map[source]int{plain: 1, gated: 2, normed: 2, read: 3}

// end is how the results of a product are left. The numbers are those of joined.cu.
type end int

const (
	stored end = iota // as they are, one for each weight
	added             // to x
	mixed             // into streams, with their matrix and what the result is multiplied by
	heads             // query, key and value: turned by their positions, and into the caches
)

// maxWeights is how many weights a product may have.
const maxWeights = 3

// product is the attribute of a joined node. Its operands are, in order: for heads
// the caches of keys and values and the positions; which rows are picked; what they are made of; codes and
// scales of each weight; what the results are added to (x, or streams, matrix and
// coefficients).
type product struct {
	From    source
	Picked  bool // rows of what they are made of
	To      end
	Weights int
	Levels  []int8
	Eps     float64
	RoPE    graph.RoPEAttr

	out []tensor.Type
}

// rows is where the operands begin that rows are made of; weights and rest where
// those follow.
func (p *product) rows() int {
	at := 0
	if p.To == heads {
		at = 3
	}
	if p.Picked {
		at++
	}
	return at
}
func (p *product) weights() int { return p.rows() + operands[p.From] }
func (p *product) rest() int    { return p.weights() + 2*p.Weights }

func infer(n *graph.Node) []tensor.Type { return n.Attr.(*product).out }

// The ops of joined nodes. They are not registered: only this package's pass makes
// them. The caches of opHeads are changed where they lie.
var (
	opProduct = &graph.Op{Name: "joined.product", Attr: (*product)(nil), Arity: -1, Results: 1, Infer: infer}
	opHeads   = &graph.Op{Name: "joined.heads", Attr: (*product)(nil), Arity: -1, Results: 3, Infer: infer, Alias: [][]int{nil, {0}, {1}}}
)

// Add adds the kernels of joined nodes to t.
func Add(t engine.Table) {
	for _, op := range []*graph.Op{opProduct, opHeads} {
		t[op] = append(t[op], productKernel())
	}
	t[opCache] = append(t[opCache], cacheKernel())
	t[opRead8] = append(t[opRead8], readKernel())
	t[opWritten] = append(t[opWritten], writtenKernel())
}
