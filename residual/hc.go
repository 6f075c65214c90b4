package residual

import (
	"fmt"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

func init() {
	framework.Residuals.Register("hc", func(o framework.Options) (framework.Residual, error) {
		n, err := streamsOption(o, 2, 4)
		return HC{n}, err
	})
}

// HC is dynamic hyper-connections (arXiv 2409.19606): SHC, to whose
// coefficients each stream i of a token adds its own, bounded by a learned
// scale,
//
//	x~_i  = RMSNorm(s_i)
//	pre_i  = static + alpha tanh(w_pre  . x~_i)
//	post_i = static + beta  tanh(w_post . x~_i)
//	H_ji   = static + alpha tanh(w_res,j . x~_i)   for each stream j
//
// Beside those of SHC, the parameters of a sub-layer, under hc, are norm [C], at
// first 1; weight [n+2,C], at first 0, its rows in the order pre, post, res;
// alpha and beta [1], at first 0.01: in all (n+3)C + 2 + n(n+2). The paper's norm
// is that of its model; here, as in arXiv 2512.24880, it is RMSNorm.
type HC struct {
	Streams int // 2 or 4
}

// Spec returns "hc:streams=2".
func (r HC) Spec() string { return fmt.Sprintf("hc:streams=%d", r.Streams) }

// Expand copies x to every stream.
func (r HC) Expand(b *graph.Builder, x graph.Value) graph.Value { return expand(b, x, r.Streams) }

// Read is the sum of the streams weighted by pre.
func (r HC) Read(b *graph.Builder, l int, s graph.Value) graph.Value {
	return b.StreamRead(s, r.at(b, l, s).pre)
}

// Write mixes the streams by H and adds y to each, weighted by post.
func (r HC) Write(b *graph.Builder, l int, s, y graph.Value) graph.Value {
	c := r.at(b, l, s)
	return b.StreamWrite(s, y, c.h, c.post)
}

// Collapse is the mean of the streams.
func (r HC) Collapse(b *graph.Builder, s graph.Value) graph.Value { return collapse(b, s) }

// Width returns the number of streams.
func (r HC) Width() int { return r.Streams }

// DoublyStochastic is false.
func (r HC) DoublyStochastic() bool { return false }

// Mixing is the matrix H [N,n,n].
func (r HC) Mixing(b *graph.Builder, l int, s graph.Value) graph.Value { return r.at(b, l, s).h }

// at computes the coefficients of sub-layer l on the streams s [N,n,C].
func (r HC) at(b *graph.Builder, l int, s graph.Value) coefficients {
	N, n, C := s.Dim(0), s.Dim(1), s.Dim(2)
	c := connections(b, n, l)
	b.In("hc", func() {
		norm, weight := b.Param("norm", graph.ConstInit(1), C), b.Param("weight", graph.ConstInit(0), n+2, C)
		z := b.NormLinear(b.Reshape(s, N*n, C), norm, weight, normEps)
		t := tanh(b, b.Transpose(z, 1, 0)) // a row for each coefficient: [n+2,N*n]
		alpha, beta := b.Param("alpha", graph.ConstInit(firstGate), 1), b.Param("beta", graph.ConstInit(firstGate), 1)
		c.pre = b.Add(b.Mul(b.Reshape(b.Slice(t, 0, 0, 1), N, n), alpha), c.pre)
		c.post = b.Add(b.Mul(b.Reshape(b.Slice(t, 0, 1, 2), N, n), beta), c.post)
		res := b.Reshape(b.Mul(b.Slice(t, 0, 2, n+2), alpha), n, N, n) // of stream j, token and stream i
		c.h = b.Add(b.Transpose(res, 1, 0, 2), c.h)
	})
	return c
}

// tanh is 2 sigmoid(2x) - 1.
func tanh(b *graph.Builder, x graph.Value) graph.Value {
	y := b.Scale(b.Sigmoid(b.Scale(x, 2)), 2)
	return b.Sub(y, b.Like(y, 1))
}
