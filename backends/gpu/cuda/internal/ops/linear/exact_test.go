package linear_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/linear"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// exact is y of a layer on codes with 8-bit activations: integers, and the float32
// operations that follow, in their order.
func exact(x, codes, scales *tensor.Tensor, k book) []float32 {
	N, K, M := x.Shape[0], x.Shape[1], codes.Shape[0]
	G, stride := scales.Shape[1], 0
	if scales.Shape[0] == M {
		stride = G
	}
	y := make([]float32, N*M)
	q := make([]int, K)
	for n := range N {
		row, top := x.F32()[n*K:(n+1)*K], float32(1e-8)
		for _, v := range row {
			top = max(top, max(v, -v))
		}
		s := top * float32(1.0/127)
		for i, v := range row {
			q[i] = int(max(-127, min(127, math.RoundToEven(float64(v/s)))))
		}
		for m := range M {
			sum := float32(0)
			for g := range G {
				d := 0
				for j := g * K / G; j < (g+1)*K/G; j++ {
					d += q[j] * k.level(codes, m, j)
				}
				sum = float32(math.FMA(float64(float32(d)), float64(scales.F32()[m*stride+g]), float64(sum)))
			}
			y[n*M+m] = sum * s
		}
	}
	return y
}

// Rows for each kernel: those of decoding (up to 8), tiles of tensor cores, and the
// one for any group; columns and K that are no multiple of a tile.
var exactShapes = []struct{ N, K, M, scaleRows, G int }{
	{1, 128, 33, 33, 1},
	{2, 256, 5, 5, 2},
	{3, 96, 17, 17, 3},
	{8, 1152, 9, 9, 9},
	{5, 192, 7, 7, 2},
	{1, 64, 3, 1, 1},
	{9, 96, 17, 17, 3},
	{33, 192, 35, 35, 2},
	{12, 32, 8, 1, 1},
	{4, 33, 7, 7, 1},
	{9, 36, 35, 35, 3},
	{1, 1, 1, 1, 1},
	{3, 8, 2, 2, 8},
}

func TestLayersOnCodesAreExactIntegers(t *testing.T) {
	be := cuda(t, engine.F32)
	for name, k := range books {
		for _, s := range exactShapes {
			checkExact(t, be, name, k, s.N, s.K, s.M, s.scaleRows, s.G)
		}
	}
	checkExact(t, be, "more columns than blocks", books["ternary"], 1, 32, 8230, 1, 1)
	defer linear.Limits(1, 1<<20, 1<<20)()
	checkExact(t, be, "large tiles, ternary", books["ternary"], 130, 160, 131, 131, 5)
	checkExact(t, be, "large tiles, odd", books["odd"], 12, 64, 130, 1, 1)
}

func checkExact(t *testing.T, be framework.Backend, name string, k book, N, K, M, scaleRows, G int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(N), uint64(K)))
	x, codes, scales := floats(rng, 1, N, K), k.codes(rng, M, K), floats(rng, 0.1, scaleRows, G)
	if N%2 == 1 {
		x = rounded(x) // quotients of short numbers tie, or nearly
	}
	attr := graph.LinearAttr{Levels: k.levels, ActBits: 8}
	u := use{op: graph.Lookup("codebookmatmul"), attr: attr, in: []*tensor.Tensor{x, codes, scales}}
	got, want := u.run(t, be)[0].F32(), exact(x, codes, scales, k)
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) && got[i] != want[i] {
			t.Fatalf("%s, [%d,%d] by [%d,%d] in %d groups: row %d, column %d is %v, want %v", name, N, K, M, K, G, i/M, i%M, got[i], want[i])
		}
	}
}

// What the kernels of a tile do not order themselves does not order the results.
func TestOrderOfThreadsDoesNotShow(t *testing.T) {
	for _, order := range []string{"reverse", "shuffle"} {
		be := cuda(t, engine.F32, "order="+order)
		checkExact(t, be, fmt.Sprint("order ", order), books["ternary"], 9, 96, 17, 17, 3)
		checkExact(t, be, fmt.Sprint("order ", order), books["ternary"], 3, 33, 9, 9, 1)
		checkExact(t, be, fmt.Sprint("order ", order), books["ternary"], 3, 320, 9, 9, 5)
	}
}
