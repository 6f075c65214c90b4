package residual

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

func init() {
	framework.Residuals.Register("kromhc", func(o framework.Options) (framework.Residual, error) {
		n, err := streamsOption(o, 2, 4, 8)
		if err != nil {
			return nil, err
		}
		return open(kronecker{n}, o)
	})
}

// kronecker is H of KroMHC (arXiv 2601.21579) for n = 2^K streams: the
// Kronecker product of K mixtures of the two permutations of two, I and the
// swap X,
//
//	H = U_1 (x) ... (x) U_K,   U_f = a_f I + (1-a_f) X,   (a_f, 1-a_f) = softmax(c_res,f)
//
// Each U_f is doubly stochastic, and so are Kronecker products of such
// matrices. The logits, 2 a factor, are 2K where mHC-lite has n!; what is lost
// are the matrices that are no such product. They start at 0 for I and -8 for X.
type kronecker struct{ streams int }

// Spec returns "kromhc:streams=2".
func (r kronecker) Spec() string { return fmt.Sprintf("kromhc:streams=%d", r.streams) }

// Width returns the number of streams.
func (r kronecker) Width() int { return r.streams }

// DoublyStochastic is true by construction.
func (r kronecker) DoublyStochastic() bool { return true }

func (r kronecker) factors() int { return bits.Len(uint(r.streams)) - 1 }

func (r kronecker) logits() []float64 { return slices.Repeat(identityLogits(2), r.factors()) }

func (r kronecker) matrix(b *graph.Builder, z graph.Value) graph.Value {
	N, K := z.Dim(0), r.factors()
	a := b.Reshape(b.Softmax(b.Reshape(z, N, K, 2)), N, 2*K)
	var h graph.Value
	for f := range K {
		same, swap := b.Slice(a, 1, 2*f, 2*f+1), b.Slice(a, 1, 2*f+1, 2*f+2)
		u := b.Reshape(b.Concat(1, same, swap, swap, same), N, 2, 2)
		if f == 0 {
			h = u
		} else {
			h = product(b, h, u)
		}
	}
	return h
}

// product is the Kronecker product of x [N,n,n] and y [N,m,m] for each token:
// element [i*m+k,j*m+l] is x_ij y_kl.
func product(b *graph.Builder, x, y graph.Value) graph.Value {
	N, n, m := x.Dim(0), x.Dim(1), y.Dim(1)
	return b.Reshape(b.Mul(b.Reshape(x, N, n, 1, n, 1), b.Reshape(y, N, 1, m, 1, m)), N, n*m, n*m)
}
