package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestVNNIKernelsEqualTheReferenceLoopOverPackedBlocks(t *testing.T) {
	needISA(t, AVX512)
	r := rand.New(rand.NewPCG(51, 1))
	for _, s := range []struct{ k, group int }{{256, 128}, {512, 256}, {96, 32}, {192, 192}, {160, 160}} {
		x := newMatrix(t, r, 5*RowBlock, s.k, s.group).on(AVX512)
		k := x.tokens(r, vnniTile)
		for n := 1; n <= vnniTile; n++ {
			const ld = 4*RowBlock + 2
			got, want := newFenced(n*ld, 1), newFenced(n*ld, 1)
			check := func(kind string) {
				t.Helper()
				what := fmt.Sprintf("%d columns in groups of %d, %d tokens, %s", s.k, s.group, n, kind)
				compare(t, what, [][]float32{got.x}, [][]float32{want.x})
				got.check(t, what)
			}
			tokenBlocksRef(want.x, ld, x.packed, k.Q, k.StrideQ, k.Offsets, k.StrideOffsets, k.Scales[:n], 4, x.t.groups, x.t.per, x.t.steps)
			if n <= 4 {
				vnniKernel(got.x, ld, x.packed, k.Q, k.StrideQ, k.Offsets, k.StrideOffsets, k.Scales[:n], 4, x.t.groups, x.t.per, x.t.steps)
				check("row blocks")
			}
			if n >= vnniPairTokens {
				got = newFenced(n*ld, 1)
				vnniPairs(got.x, ld, x.packed, x.t.rowBlockBytes, k.Q, k.StrideQ, k.Offsets, k.StrideOffsets, k.Scales[:n], 2, x.t.groups, x.t.per, x.t.steps)
				check("pairs")
			}
		}
	}
}

func TestEvenTilesTakeAllTokens(t *testing.T) {
	for n := 1; n < 500; n++ {
		largest, smallest, tiles := 0, vnniTile, 0
		for left := n; left > 0; tiles++ {
			tile := evenTile(left)
			if tile < 1 || tile > min(left, vnniTile) {
				t.Fatalf("of %d tokens: a tile of %d", left, tile)
			}
			largest, smallest = max(largest, tile), min(smallest, tile)
			left -= tile
		}
		if tiles != (n+vnniTile-1)/vnniTile || largest-smallest > 1 {
			t.Fatalf("%d tokens are %d tiles of %d to %d", n, tiles, smallest, largest)
		}
	}
}

// The largest sums of a wide group, for a kernel of each kind.
func TestVNNISumsDoNotOverflow(t *testing.T) {
	needISA(t, AVX512)
	r := rand.New(rand.NewPCG(53, 1))
	const columns = 1 << 18
	x := newMatrix(t, r, 2*RowBlock, columns, columns).on(AVX512)
	for _, code := range []byte{0x00, 0xaa} {
		for i := range x.codes {
			x.codes[i] = code
		}
		x.pack()
		k := x.signs(3)
		x.check(t, k, 0, 1, 0, 1)
		x.check(t, k, 0, 1, 1, 2)
		x.check(t, k, 0, 2, 0, 3)
	}
}

// Widths of several blocks at odd addresses, extreme values among random ones, and nothing written beside the result.
func TestQuantizeToken512EqualsItsReference(t *testing.T) {
	needISA(t, AVX512)
	r := rand.New(rand.NewPCG(54, 1))
	for _, n := range []int{128, 256, 384, 1024} {
		for offset := range 20 {
			row := newFenced(n, offset)
			for i := range row.x {
				row.x[i] = float32(r.NormFloat64() * math.Exp2(float64(r.IntN(9)-offset)))
			}
			q, want := slices.Repeat([]int8{99}, n+130), slices.Repeat([]int8{99}, n+130)
			o, wantO := slices.Repeat([]int32{7}, n/128+2), slices.Repeat([]int32{7}, n/128+2)
			scale := quantizeToken512(q[offset:offset+n], o[1:1+n/128], row.x)
			wantScale := quantizeToken512Ref(want[offset:offset+n], wantO[1:1+n/128], row.x)
			if scale != wantScale || !slices.Equal(q, want) || !slices.Equal(o, wantO) {
				t.Fatalf("%d columns at %d: scale %g, offsets %v, want %g, %v", n, offset, scale, o, wantScale, wantO)
			}
			bad := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}[offset%3]
			row.x[r.IntN(n)] = bad
			if got := quantizeToken512(q[offset:offset+n], o[1:1+n/128], row.x); got != 0 || !slices.Equal(q, want) || !slices.Equal(o, wantO) {
				t.Fatalf("%d columns with %g: scale %g, or something is written", n, bad, got)
			}
		}
	}
}
