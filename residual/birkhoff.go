package residual

import (
	"fmt"

	"github.com/ternlm/tern/framework/graph"
)

// birkhoff is H of mHC-lite (arXiv 2601.05732) with coefficients that follow
// the token, spec mhclite:mode=dynamic: a convex combination of all
// permutations, which by the theorem of Birkhoff and von Neumann is every
// doubly stochastic matrix and no other:
//
//	H = sum_k a_k P_k,   a = softmax(c_res)
//
// Its n! logits start at 0 for the identity and at -8 for the rest. With the
// weights at 0, their first value, it is MHCLite.
type birkhoff struct{ streams int }

// Spec returns "mhclite:streams=2".
func (r birkhoff) Spec() string { return fmt.Sprintf("mhclite:streams=%d", r.streams) }

// Width returns the number of streams.
func (r birkhoff) Width() int { return r.streams }

// DoublyStochastic is true by construction.
func (r birkhoff) DoublyStochastic() bool { return true }

func (r birkhoff) logits() []float64 { return identityLogits(len(permutations(r.streams))) }

func (r birkhoff) matrix(b *graph.Builder, z graph.Value) graph.Value {
	n, perms := r.streams, permutations(r.streams)
	p := b.ConstList(indicator(perms), len(perms), n*n)
	return b.Reshape(b.MatMul(b.Softmax(z), p, false, false), z.Dim(0), n, n)
}
