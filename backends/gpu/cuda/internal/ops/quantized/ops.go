package quantized

import (
	"strings"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// OwnRows is up to how many rows the readers quantize for themselves, which takes
// less time than another kernel's launch.
const OwnRows = 2

// Padded is the length of a row of k codes: whole pieces of 64, of which the tiles
// of products read.
func Padded(k int) int { return (k + 63) &^ 63 }

// What makes codes and their units. None of these ops is registered: they are not
// part of the language of graphs, only of a backend's own.
var (
	// Rows quantizes x [N,K].
	Rows = &graph.Op{Name: "int8rows", Arity: 1, Results: 2, Infer: inferRows}
	// Norm quantizes rmsnorm(x, gain).
	Norm = &graph.Op{Name: "rmsnorm.int8", Attr: graph.NormAttr{}, Arity: 2, Results: 2, Infer: inferRows}
	// Gate quantizes swiglu(gate, up).
	Gate = &graph.Op{Name: "swiglu.int8", Arity: 2, Results: 2, Infer: inferRows}
)

// makers are the ops that quantize at once what an op gives.
var makers = map[*graph.Op]*graph.Op{graph.Lookup("rmsnorm"): Norm, graph.Lookup("swiglu"): Gate}

func inferRows(n *graph.Node) []tensor.Type {
	x := n.In[0].Shape()
	return []tensor.Type{tensor.T(tensor.I8, x[0], Padded(x[1])), tensor.T(tensor.F32, x[0])}
}

// Reader is the attribute of an op that reads codes: that of the op it stands for,
// whose results it has.
type Reader struct {
	graph.LinearAttr
	out []tensor.Type
}

// readers are the ops that read codes, by the ones that read x.
var readers = func() map[*graph.Op]*graph.Op {
	all := map[*graph.Op]*graph.Op{}
	for _, name := range []string{"bitlinear", "codebookmatmul", "bitlinearcrossentropy", "codebookcrossentropy"} {
		op := graph.Lookup(name)
		for _, o := range []*graph.Op{op, op.Pullback(), op.Joint()} {
			if o != nil {
				all[o] = reader(o)
			}
		}
	}
	return all
}()

// Of returns the op that stands for a linear layer, its pullback or the like, and
// takes in place of x, and of the latent weight if it has one, codes and units: they
// are its first two operands, and then come those of op, from the weight's codes on.
// The latent weight is nothing that is read: it has a gradient, straight through.
func Of(op *graph.Op) *graph.Op { return readers[op] }

func reader(op *graph.Op) *graph.Op {
	arity := op.Arity
	if !latent(op) {
		arity++
	}
	return &graph.Op{
		Name: op.Name + ".int8", Attr: Reader{}, Arity: arity, Results: op.Results,
		Infer: func(n *graph.Node) []tensor.Type { return n.Attr.(Reader).out },
	}
}

// latent reports whether operand 1 of op is a latent weight.
func latent(op *graph.Op) bool { return strings.HasPrefix(op.Name, "bitlinear") }

// operands are those of the node that stands for n, from the third on.
func operands(n *graph.Node) []graph.Value {
	if latent(n.Op) {
		return n.In[2:]
	}
	return n.In[1:]
}

// reads reports whether n can read codes instead of its operand 0.
func reads(n *graph.Node) bool {
	return readers[n.Op] != nil && n.Attr.(graph.LinearAttr).ActBits == 8 && n.In[0].Dim(0) > OwnRows
}
