package main

import (
	"fmt"
	"math/bits"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// homeBias is what tells a sub-layer's home stream from the others at the start.
const homeBias = 1

// Kronecker carries S = 2^F streams mixed by a Kronecker product of F doubly stochastic matrices of 2x2 (static KroMHC,
// after arXiv 2601.21579):
//
//	read:  x   = sum_i pre_i s_i,                pre  = sigmoid(pre)
//	write: s_i = sum_j H_ij s_j + post_i F(x),   post = 2 sigmoid(post)
//	H = U_1 (x) ... (x) U_F,                     U_f  = a_f I + (1-a_f) X,   a_f = sigmoid(mix_f)
//
// X swaps two streams. I and X are all the permutations of two, so every U_f is doubly stochastic, and so are Kronecker
// products and products of such matrices: the gain through any depth is 1. Four streams take 2 numbers a sub-layer for H
// where a mixture of all permutations takes 24, at the price of the matrices that are no such product.
type Kronecker struct {
	Streams int     // 2, 4 or 8
	Mix     float64 // first logit of the identity in each factor
}

// Open reads the options streams (2, 4 or 8; 4) and mix (the first logit of the identity; 8).
func Open(o framework.Options) (framework.Residual, error) {
	n, err := o.Int("streams", 4)
	if err != nil {
		return nil, err
	}
	if n != 2 && n != 4 && n != 8 {
		return nil, errors.WithHint(errors.Wrapf(framework.ErrOption, "streams=%d", n), "streams is 2, 4 or 8")
	}
	mix, err := o.Float("mix", 8)
	if err == nil && (mix < -20 || mix > 20) {
		err = errors.WithHint(errors.Wrapf(framework.ErrOption, "mix=%g", mix), "mix is a logit from -20 to 20")
	}
	return Kronecker{Streams: n, Mix: mix}, err
}

// Spec returns the full spec, such as "kronecker:streams=4,mix=8".
func (r Kronecker) Spec() string { return fmt.Sprintf("kronecker:streams=%d,mix=%g", r.Streams, r.Mix) }

// Expand copies x [N,C] to every stream: [N,S,C].
func (r Kronecker) Expand(b *graph.Builder, x graph.Value) graph.Value {
	x = b.Reshape(x, x.Dim(0), 1, x.Dim(1))
	all := make([]graph.Value, r.Streams)
	for i := range all {
		all[i] = x
	}
	return b.Concat(1, all...)
}

// Read is the sum of the streams weighted by pre.
func (r Kronecker) Read(b *graph.Builder, l int, s graph.Value) graph.Value {
	return b.StreamRead(s, r.gate(b, "pre", l))
}

// Write mixes the streams by H and adds y to each, weighted by post.
func (r Kronecker) Write(b *graph.Builder, l int, s, y graph.Value) graph.Value {
	return b.StreamWrite(s, y, r.Mixing(b, l, s), b.Scale(r.gate(b, "post", l), 2))
}

// Collapse is the mean of the streams.
func (r Kronecker) Collapse(b *graph.Builder, s graph.Value) graph.Value {
	return b.Reshape(b.Mean(s, 1), s.Dim(0), s.Dim(2))
}

// Width returns the number of streams.
func (r Kronecker) Width() int { return r.Streams }

// DoublyStochastic is true by construction.
func (r Kronecker) DoublyStochastic() bool { return true }

// Mixing is the matrix H [S,S].
func (r Kronecker) Mixing(b *graph.Builder, _ int, _ graph.Value) graph.Value {
	factors := bits.Len(uint(r.Streams)) - 1
	a := b.Sigmoid(r.param(b, "mix", graph.ConstInit(r.Mix), factors))
	swap := b.Sub(b.Like(a, 1), a)
	var h graph.Value
	for f := range factors {
		same, other := b.Slice(a, 0, f, f+1), b.Slice(swap, 0, f, f+1)
		u := b.Reshape(b.Concat(0, same, other, other, same), 2, 2)
		if f == 0 {
			h = u
		} else {
			h = product(b, h, u)
		}
	}
	return h
}

// product is the Kronecker product of x [n,n] and y [m,m]: element [i*m+k, j*m+l] is x_ij y_kl.
func product(b *graph.Builder, x, y graph.Value) graph.Value {
	n, m := x.Dim(0), y.Dim(0)
	return b.Reshape(b.Mul(b.Reshape(x, n, 1, n, 1), b.Reshape(y, 1, m, 1, m)), n*m, n*m)
}

// gate is the sigmoid of a parameter [S]. Each sub-layer starts with a home stream, in turn: were all streams treated
// alike, they would stay equal for ever.
func (r Kronecker) gate(b *graph.Builder, name string, l int) graph.Value {
	bias := make([]float64, r.Streams)
	for i := range bias {
		bias[i] = -homeBias
	}
	bias[l%r.Streams] = homeBias
	return b.Sigmoid(r.param(b, name, graph.ListInit(bias...), r.Streams))
}

// param declares a parameter under kronecker in the scope of the sub-layer.
func (r Kronecker) param(b *graph.Builder, name string, init graph.Init, n int) (p graph.Value) {
	b.In("kronecker", func() { p = b.Param(name, init, n) })
	return p
}
