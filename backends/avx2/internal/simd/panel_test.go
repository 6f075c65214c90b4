package simd

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestPanelKernelsEqualTheirReferenceLoop(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(41, 1))
	for _, s := range []struct{ k, group int }{{256, 128}, {512, 256}, {96, 32}, {192, 192}, {1024, 1024}, {384, 128}} {
		x := newMatrix(t, r, 16, s.k, s.group)
		k := x.tokens(r, 18)
		groups, per, steps := x.t.groups, x.t.per, x.t.steps
		panel, want := make([]byte, RowBlock*s.k), make([]byte, RowBlock*s.k)
		unpackPanel(panel, x.packed, groups*per, steps)
		unpackPanelRef(want, x.packed, groups*per, steps)
		if !bytes.Equal(panel, want) {
			t.Fatalf("%d columns in groups of %d: the unpacked panel is wrong", s.k, s.group)
		}
		for tile := 1; tile <= tileTokens; tile++ {
			for ends := range 4 {
				n, ld := tile*(1+ends%3), RowBlock+5
				got, want := newFenced(n*ld, 1), newFenced(n*ld, 1)
				for i := range got.x {
					got.x[i] = float32(i)
					want.x[i] = float32(i)
				}
				panelKernel(got.x, ld, panel, x.packed[64*steps:], per*x.t.blockBytes, k.Q, k.StrideQ, k.Offsets, k.StrideOffsets, k.Scales[:n], groups, per, steps, ends, tile)
				panelRef(want.x, ld, panel, x.packed[64*steps:], per*x.t.blockBytes, k.Q, k.StrideQ, k.Offsets, k.StrideOffsets, k.Scales[:n], groups, per, steps, ends)
				what := fmt.Sprintf("%d columns in groups of %d, tile %d, ends %d", s.k, s.group, tile, ends)
				compare(t, what, [][]float32{got.x}, [][]float32{want.x})
				got.check(t, what)
			}
		}
	}
}

func TestTilesTakeAllTokens(t *testing.T) {
	for n := 1; n < 500; n++ {
		for left := n; left > 0; {
			tokens, tile := tiles(left)
			if tokens < 1 || tokens > left || tile < 1 || tile > tileTokens || tokens%tile != 0 {
				t.Fatalf("of %d tokens: %d in tiles of %d", left, tokens, tile)
			}
			if n > 24 && tile < tileTokens-1 {
				t.Fatalf("%d tokens end in a tile of %d", n, tile)
			}
			left -= tokens
		}
	}
}

// Groups of every width that fits a panel, and one that does not.
func TestManyTokensGiveTheBitsOfOne(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(42, 1))
		for _, s := range []struct{ m, k, group int }{{50, 2048, 128}, {33, 3072, 1024}, {16, 1056, 1056}, {20, 640, 64}, {17, 960, 320}, {40, 1600, 32}} {
			x := newMatrix(t, r, s.m, s.k, s.group).on(isa)
			for _, n := range []int{panelTokens, 31, 131} {
				x.check(t, x.tokens(r, n), 0, x.t.RowBlocks(), 0, n)
			}
		}
	})
}

// The largest sums, for tiles of every size, each alone: all codes of one level or of two in turn, all activations
// +-127.
func TestPanelExtremesDoNotOverflow(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(43, 1))
	for _, group := range []int{128, 1024} {
		x := newMatrix(t, r, 2*RowBlock, 2048, group)
		for _, code := range []byte{0x00, 0x55, 0xaa, 0x88, 0x22} {
			for i := range x.codes {
				x.codes[i] = code
			}
			x.pack()
			k := x.signs(tileTokens)
			for n := 1; n <= tileTokens; n++ {
				if tokens, tile := tiles(n); tokens != n || tile != n {
					t.Fatalf("%d tokens are not one tile", n)
				}
				x.checkPanels(t, k, 0, 2, tileTokens-n, tileTokens)
				x.checkPanels(t, k, 0, 2, 0, n)
			}
		}
	}
}
