package residual

import (
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

const (
	firstGate = 0.01 // of what follows the token, beside the biases
	normEps   = 1e-6
)

// parameterization is how the matrix H of a constrained residual comes from
// its logits.
type parameterization interface {
	// Spec is the name and the options that are the parameterization's own.
	Spec() string
	// Width returns the number n of streams.
	Width() int
	// DoublyStochastic reports whether H is exactly so.
	DoublyStochastic() bool
	// logits gives the first biases of the k logits of H; none where H is fixed.
	logits() []float64
	// matrix is H [N,n,n] of logits z [N,k], or a fixed H [n,n] where k is 0.
	matrix(b *graph.Builder, z graph.Value) graph.Value
}

// constrained carries n streams with coefficients as in mHC (arXiv 2512.24880,
// equations 7 and 8), which its successors share but for H:
//
//	x~    = RMSNorm(vec(s))                    of all n C numbers of a token
//	c     = gate (W x~) + bias                 for each of pre, post and res
//	read:  x   = sum_i pre_i s_i,              pre  = sigmoid(c_pre)
//	write: s_i = sum_j H_ij s_j + post_i F(x), post = 2 sigmoid(c_post)
//	H          = the parameterization of c_res
//
// Parameters of a sub-layer, under mhc: norm [nC], at first 1; weight
// [2n+k,nC], at first 0, its rows in the order pre, post, res; pre_gate,
// post_gate and res_gate [1], at first 0.01; pre_bias and post_bias [n], at
// first 1 for the home stream and -1 for the others; res_bias [k]. That is
// nC(2n+k) + nC + 2n+k + 3. Static coefficients are the biases alone, 2n+k.
type constrained struct {
	parameterization
	static bool
}

// open reads the option mode, which says whether coefficients follow the token.
func open(p parameterization, o framework.Options) (framework.Residual, error) {
	mode, err := o.Choice("mode", "dynamic", "static")
	return constrained{p, mode == "static"}, err
}

// Spec returns the parameterization's with the mode.
func (r constrained) Spec() string {
	if r.static {
		return r.parameterization.Spec() + ",mode=static"
	}
	return r.parameterization.Spec() + ",mode=dynamic"
}

// Expand copies x to every stream.
func (r constrained) Expand(b *graph.Builder, x graph.Value) graph.Value {
	return expand(b, x, r.Width())
}

// Collapse is the mean of the streams.
func (r constrained) Collapse(b *graph.Builder, s graph.Value) graph.Value { return collapse(b, s) }

// Read is the sum of the streams weighted by pre.
func (r constrained) Read(b *graph.Builder, l int, s graph.Value) graph.Value {
	return b.StreamRead(s, r.at(b, l, s).pre)
}

// Write mixes the streams by H and adds y to each, weighted by post. What it
// computes once more than Read did is merged with that when the graph is
// lowered.
func (r constrained) Write(b *graph.Builder, l int, s, y graph.Value) graph.Value {
	c := r.at(b, l, s)
	return b.StreamWrite(s, y, c.h, c.post)
}

// Mixing is H [N,n,n], or [n,n] where it does not follow the token.
func (r constrained) Mixing(b *graph.Builder, l int, s graph.Value) graph.Value {
	return r.at(b, l, s).h
}

// coefficients are those of one sub-layer: pre and post [N,n] and h [N,n,n],
// or without N.
type coefficients struct{ pre, post, h graph.Value }

// at computes the coefficients of sub-layer l on the streams s.
func (r constrained) at(b *graph.Builder, l int, s graph.Value) (c coefficients) {
	n, res := r.Width(), r.logits()
	b.In("mhc", func() {
		var z graph.Value
		if !r.static {
			z = project(b, s, 2*n+len(res))
		}
		bias := home(n, l, 1, -1)
		c.pre = b.Sigmoid(gated(b, "pre", z, 0, bias))
		c.post = b.Scale(b.Sigmoid(gated(b, "post", z, n, bias)), 2)
		if len(res) > 0 {
			c.h = r.matrix(b, gated(b, "res", z, 2*n, res))
		} else {
			c.h = r.matrix(b, graph.Value{})
		}
	})
	if r.static { // of one row, which is that of every token
		c.pre, c.post, c.h = b.Reshape(c.pre, n), b.Reshape(c.post, n), b.Reshape(c.h, n, n)
	}
	return c
}

// project is W x~ [N,rows]: the streams s [N,n,C] of each token, flattened,
// normalized and multiplied by the parameter weight [rows,nC].
func project(b *graph.Builder, s graph.Value, rows int) graph.Value {
	N, width := s.Dim(0), s.Dim(1)*s.Dim(2)
	norm, weight := b.Param("norm", graph.ConstInit(1), width), b.Param("weight", graph.ConstInit(0), rows, width)
	return b.NormLinear(b.Reshape(s, N, width), norm, weight, normEps)
}

// gated is gate z + bias of the columns of z [N,.] from lo on, as many as there
// are biases: [N,len(bias)]; without z it is the bias [1,len(bias)].
func gated(b *graph.Builder, name string, z graph.Value, lo int, bias []float64) graph.Value {
	n := len(bias)
	c := b.Reshape(b.Param(name+"_bias", graph.ListInit(bias...), n), 1, n)
	if !z.Ok() {
		return c
	}
	return b.Add(b.Mul(b.Slice(z, 1, lo, lo+n), b.Param(name+"_gate", graph.ConstInit(firstGate), 1)), c)
}
