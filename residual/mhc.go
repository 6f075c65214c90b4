package residual

import (
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

func init() {
	framework.Residuals.Register("mhc", openMHC)
}

// maxIterations bounds the option iterations: each of them is nodes of the
// graph, in every sub-layer.
const maxIterations = 100

// sinkhorn is H of mHC (manifold-constrained hyper-connections, arXiv
// 2512.24880, equations 8 and 9): the method of Sinkhorn and Knopp, which
// normalizes the columns of a positive matrix and then its rows, again and
// again,
//
//	M_0 = exp(c_res),   M_t = rows(columns(M_t-1)),   H = M_iterations
//
// Rows of H sum to 1. Columns do so in the limit alone: after 20 iterations, on
// logits that are far apart, they may still be off by tens of percent, so H is
// not claimed to be doubly stochastic. The n^2 logits start at 0 on the
// diagonal and at -8 elsewhere, as in the code of mHC-lite's authors. With
// k = n^2 a sub-layer has n^2(n+2)C weights, nC gains of the norm, which the
// paper's kernels take into the weights, and n(n+2)+3 biases and gates.
type sinkhorn struct{ streams, iterations int }

func openMHC(o framework.Options) (framework.Residual, error) {
	n, err := streamsOption(o, 2, 4)
	if err != nil {
		return nil, err
	}
	t, err := o.Int("iterations", 20)
	if err != nil {
		return nil, err
	}
	if t < 1 || t > maxIterations {
		return nil, errors.WithHint(errors.Wrapf(framework.ErrOption, "iterations=%d", t), fmt.Sprintf("iterations is from 1 to %d", maxIterations))
	}
	return open(sinkhorn{n, t}, o)
}

// Spec returns "mhc:streams=2,iterations=20".
func (r sinkhorn) Spec() string {
	return fmt.Sprintf("mhc:streams=%d,iterations=%d", r.streams, r.iterations)
}

// Width returns the number of streams.
func (r sinkhorn) Width() int { return r.streams }

// DoublyStochastic is false: the columns sum to 1 in the limit alone.
func (r sinkhorn) DoublyStochastic() bool { return false }

func (r sinkhorn) logits() []float64 {
	z := identity(r.streams)
	for i, v := range z {
		z[i] = 8 * (v - 1)
	}
	return z
}

// matrix is computed with the first iteration in logarithms, which no logits
// overflow. From then on nothing can be divided by 0: rows that sum to 1, of n
// elements that columns summing to 1 had, leave columns that sum to 1/n or
// more, and the other way round. On the way the tokens are the last axis, since
// all there is to do is elementwise, again and again.
func (r sinkhorn) matrix(b *graph.Builder, z graph.Value) graph.Value {
	const columns, rows = 0, 1 // the axes over which their sums go
	z = b.Reshape(b.Transpose(z, 1, 0), r.streams, r.streams, z.Dim(0))
	m := softmax(b, logSoftmax(b, z, columns), rows)
	for range r.iterations - 1 {
		m = b.Div(m, b.Sum(m, columns))
		m = b.Div(m, b.Sum(m, rows))
	}
	return b.Transpose(m, 2, 0, 1)
}

// softmax normalizes exp(z) over an axis.
func softmax(b *graph.Builder, z graph.Value, axis int) graph.Value {
	e := b.Exp(b.Sub(z, b.StopGrad(b.AMax(z, axis))))
	return b.Div(e, b.Sum(e, axis))
}

// logSoftmax is the logarithm of softmax.
func logSoftmax(b *graph.Builder, z graph.Value, axis int) graph.Value {
	z = b.Sub(z, b.StopGrad(b.AMax(z, axis)))
	return b.Sub(z, b.Log(b.Sum(b.Exp(z), axis)))
}
