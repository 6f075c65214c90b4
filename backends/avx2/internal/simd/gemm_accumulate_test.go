package simd

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestGemmContinuesWhatCHolds cuts k at random and compares with one product over all of it, bit for bit.
func TestGemmContinuesWhatCHolds(t *testing.T) { eachISA(t, testGemmContinuesWhatCHolds) }

func testGemmContinuesWhatCHolds(t *testing.T, isa ISA) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, shape := range gemmShapes() {
		m, n, k := shape[0], shape[1], shape[2]
		g := Gemm{ISA: isa, M: m, N: n, K: k, TransA: true, Workers: 2} // rows of op(A)^T and B are runs of k
		a, b := randFloats(r, m*k, 1), randFloats(r, n*k, 2)
		want := make([]float32, m*n)
		runGemm(r, g, a, b, want)
		got, check := guarded(t, m*n, 3)
		for lo := 0; lo < k; {
			part := g
			part.K, part.Accumulate = 1+r.IntN(k-lo), lo > 0
			runGemm(r, part, a[lo*m:], b[lo*n:], got)
			lo += part.K
		}
		check()
		if k > 0 {
			sameBits(t, fmt.Sprintf("%+v", g), got, want)
		}
	}
}

// TestGemmTakesPanelsOfRows compares a product whose panels are made as needed with one that packs all of them first.
func TestGemmTakesPanelsOfRows(t *testing.T) { eachISA(t, testGemmTakesPanelsOfRows) }

func testGemmTakesPanelsOfRows(t *testing.T, isa ISA) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, shape := range gemmShapes() {
		g := Gemm{ISA: isa, M: shape[0], N: shape[1], K: shape[2], Workers: 2}
		a, b := randFloats(r, g.M*g.K, 0), randFloats(r, g.N*g.K, 1)
		want := make([]float32, g.M*g.N)
		runGemm(r, g, a, b, want)
		source := g
		source.Source = RowPanels(b, g.N)
		got, check := guarded(t, g.M*g.N, 1)
		runGemm(r, source, a, nil, got)
		check()
		sameBits(t, fmt.Sprintf("%+v", g), got, want)
	}
}
