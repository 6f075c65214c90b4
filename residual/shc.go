package residual

import (
	"fmt"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

func init() {
	framework.Residuals.Register("shc", func(o framework.Options) (framework.Residual, error) {
		n, err := streamsOption(o, 2, 4)
		return SHC{n}, err
	})
}

// SHC is static hyper-connections (arXiv 2409.19606): n streams mixed by any
// matrix that training comes to, with the paper's A_m, A_r and B as pre, the
// transpose of H, and post:
//
//	read:  x   = sum_i pre_i s_i
//	write: s_i = sum_j H_ij s_j + post_i F(x)
//
// Parameters of a sub-layer, under hc: pre [n], at first 1 for the home stream
// and 0 for the others; res [n,n], which is H, at first the identity; post [n],
// at first 1. That is n(n+2). So a network starts as one with the standard
// residual, all streams alike; what tells them apart is which of them each
// sub-layer reads. Nothing bounds products of H.
//
// The paper also scales the first output projections by sqrt(n), since it adds
// up the streams at the end. A residual has no say in the init of other layers,
// and with the mean at the end there is nothing to make up for.
type SHC struct {
	Streams int // 2 or 4
}

// Spec returns "shc:streams=2".
func (r SHC) Spec() string { return fmt.Sprintf("shc:streams=%d", r.Streams) }

// Expand copies x to every stream.
func (r SHC) Expand(b *graph.Builder, x graph.Value) graph.Value { return expand(b, x, r.Streams) }

// Read is the sum of the streams weighted by pre.
func (r SHC) Read(b *graph.Builder, l int, s graph.Value) graph.Value {
	return b.StreamRead(s, connections(b, r.Streams, l).pre)
}

// Write mixes the streams by H and adds y to each, weighted by post.
func (r SHC) Write(b *graph.Builder, l int, s, y graph.Value) graph.Value {
	c := connections(b, r.Streams, l)
	return b.StreamWrite(s, y, c.h, c.post)
}

// Collapse is the mean of the streams.
func (r SHC) Collapse(b *graph.Builder, s graph.Value) graph.Value { return collapse(b, s) }

// Width returns the number of streams.
func (r SHC) Width() int { return r.Streams }

// DoublyStochastic is false.
func (r SHC) DoublyStochastic() bool { return false }

// Mixing is the matrix H [n,n].
func (r SHC) Mixing(b *graph.Builder, l int, _ graph.Value) graph.Value {
	return connections(b, r.Streams, l).h
}

// connections declares the static coefficients of sub-layer l.
func connections(b *graph.Builder, n, l int) (c coefficients) {
	b.In("hc", func() {
		c.pre = b.Param("pre", graph.ListInit(home(n, l, 1, 0)...), n)
		c.h = b.Param("res", graph.ListInit(identity(n)...), n, n)
		c.post = b.Param("post", graph.ConstInit(1), n)
	})
	return c
}
