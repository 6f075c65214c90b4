package main

import (
	"fmt"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/memory"
	"github.com/ternlm/tern/model"
)

// fits refuses, before anything is measured, a graph that would not fit in
// memory once for each number of threads, with extra bytes beside it.
func (l *lab) fits(what, lower string, g *graph.Graph, err error, extra int64, copies int) error {
	if err != nil {
		return memory.Untraceable(err, what, lower)
	}
	be, err := l.backend(l.threadsOf("train")[0]) // any: the sizes are the same
	if err != nil {
		return err
	}
	for _, n := range g.States {
		extra += int64(copies-1) * int64(n.Out[0].Bytes())
	}
	return memory.Check(be, memory.Load{What: what, Graph: g, Extra: extra, Lower: lower, Model: lower})
}

// fitsKernel is fits for the product of tokens by a quantized weight [m,k]: its
// graph, and that which packs the weight, drawn before it is in the store.
func (l *lab) fitsKernel(q framework.Quantizer, m, k, tokens int) error {
	what, lower := fmt.Sprintf("--shape %dx%d with --tokens %d", m, k, tokens), "choose a smaller --shape or fewer --tokens"
	pack, err := tracePack(q, m, k)
	if err := l.fits(what, lower, pack, err, 4*int64(m)*int64(k), 1); err != nil {
		return err
	}
	g, err := traceKernel(q, m, k, tokens, kernelCopies(m, k, tokens))
	return l.fits(what, lower, g, err, 0, len(l.threadsOf("kernels")))
}

// fitsGemm is fits for an f32 product.
func (l *lab) fitsGemm(f gemmForm, n, m, k int) error {
	g, err := traceGemm(f, n, m, k, gemmCopies(n, m, k))
	return l.fits(fmt.Sprintf("--gemm-shape %dx%dx%d", n, m, k), "choose a smaller --gemm-shape", g, err, 0, len(l.threadsOf("gemm")))
}

// fitsRandom refuses a model whose random weights would not fit: the graph that
// packs them, and the largest parameter, drawn before it is in the store.
func fitsRandom(be framework.Backend, m *model.Model, params []model.Parameter) error {
	const lower = "choose a smaller --preset, or lower --dim, --layers, --ffn or the vocabulary (--tokenizer)"
	g, err := m.Pack()
	if err != nil {
		return memory.Untraceable(err, "the model with random weights", lower)
	}
	packed, sum, largest := map[string]bool{}, int64(0), int64(0)
	for _, n := range g.States {
		packed[n.Name()] = true
	}
	for _, p := range params {
		bytes := int64(tensor.T(tensor.F32, p.Shape...).Bytes())
		largest = max(largest, bytes)
		if !packed[p.Name] {
			sum += bytes
		}
	}
	return memory.Check(be, memory.Load{What: "the model with random weights", Graph: g, Extra: sum + largest, Lower: lower, Model: lower})
}
