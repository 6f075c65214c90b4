package main

import (
	"context"
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// trainingShapes are tokens x rows x columns of the weights of nano-125m and of
// the 13.8M model, in micro-batches of 1,024 tokens.
const trainingShapes = "1024x768x768,1024x2048x768,1024x768x2048,1024x50257x768,1024x384x384,1024x1024x384,1024x384x1024,1024x4096x384"

// gemmForm is one of the three products of a linear layer: the sizes of its
// operands for n tokens and a weight [m,k], and how they enter.
type gemmForm struct {
	name, letters  string // as BLAS has them: n as it is, t transposed
	sizes          func(n, m, k int) (x, y [2]int)
	transX, transY bool
}

var gemmForms = []gemmForm{
	{"X W^T", "nt", func(n, m, k int) (x, y [2]int) { return [2]int{n, k}, [2]int{m, k} }, false, true},
	{"dY W", "nn", func(n, m, k int) (x, y [2]int) { return [2]int{n, m}, [2]int{m, k} }, false, false},
	{"dY^T X", "tn", func(n, m, k int) (x, y [2]int) { return [2]int{n, m}, [2]int{n, k} }, true, false},
}

// result gives the product's size M x N and the length K of its sums.
func (f gemmForm) result(n, m, k int) (M, N, K int) {
	switch f.letters {
	case "nt":
		return n, m, k
	case "nn":
		return n, k, m
	}
	return m, k, n
}

// gemmCase measures one form for n tokens and a weight [m,k].
func gemmCase(f gemmForm, n, m, k int, threads []int) benchCase {
	ops := 2 * float64(n) * float64(m) * float64(k)
	x, y := f.sizes(n, m, k)
	M, N, K := f.result(n, m, k)
	values := map[string]string{"form": f.letters, "m": fmt.Sprint(M), "n": fmt.Sprint(N), "k": fmt.Sprint(K), "tokens": fmt.Sprint(n), "rows": fmt.Sprint(m), "cols": fmt.Sprint(k)}
	c := benchCase{
		part: "gemm", threads: threads, series: f.name, name: fmt.Sprintf("%dx%dx%d", n, m, k), unit: "GFLOP/s", item: "product", units: ops / 1e9,
		params: map[string]any{"form": f.letters, "m": M, "n": N, "k": K, "tokens": n, "rows": m, "cols": k},
		values: values,
		work:   work{F32: ops, Bytes: 4 * float64(x[0]*x[1]+y[0]*y[1]+M*N)},
		open: func(ctx context.Context, be framework.Backend) (subject, error) {
			return newGemm(ctx, be, f, n, m, k, gemmCopies(n, m, k))
		},
	}
	few := max(1, min(n, (1<<26)/max(m, 512)/max(k, 512)))
	if f.letters == "tn" {
		few = max(few, min(n, 16))
	}
	small := min(m, 4096)
	c.scalar = &scalarCase{factor: 1, open: func(ctx context.Context, be framework.Backend) (subject, error) {
		return newGemm(ctx, be, f, few, small, k, 1)
	}}
	if few != n || small != m {
		c.scalar.note = fmt.Sprintf("by %dx%dx%d", few, small, k)
	}
	return c
}

// gemmCopies is copiesFor an f32 product.
func gemmCopies(n, m, k int) int {
	return copiesFor(2*float64(n)*float64(m)*float64(k), 2e9, 16)
}

// newGemm repeats a product for left operands of their own.
func newGemm(ctx context.Context, be framework.Backend, f gemmForm, n, m, k, copies int) (*graphRun, error) {
	g, err := traceGemm(f, n, m, k, copies)
	if err != nil {
		return nil, errors.Wrap(err, "trace the product")
	}
	r, err := newGraphRun(ctx, be, g, nil)
	if err != nil {
		return nil, err
	}
	r.units = 2 * float64(n) * float64(m) * float64(k) * float64(copies) / 1e9
	return r, nil
}

// traceGemm is the graph of newGemm. The right operand is a value of the run,
// not a state: what a backend does to it counts.
func traceGemm(f gemmForm, n, m, k, copies int) (*graph.Graph, error) {
	xs, ys := f.sizes(n, m, k)
	return graph.Trace(func(b *graph.Builder) {
		y := b.Scale(b.GlobalParam("y", graph.Init{}, ys[0], ys[1]), 0.5)
		for i := range copies {
			x := b.GlobalParam(fmt.Sprintf("x.%d", i), graph.Init{}, xs[0], xs[1])
			z := b.MatMul(x, y, f.transX, f.transY)
			b.Update(b.GlobalBuffer(fmt.Sprintf("z.%d", i), tensor.T(tensor.F32, z.Shape()...)), z)
		}
	})
}
