package simd

import (
	"math/rand/v2"
	"testing"
)

// Shapes, groups, codes without a level among the others, addresses and guards at random.
func TestTernaryMatMulOfRandomShapes(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(34, 1))
		draws := 400
		if testing.Short() {
			draws = 60
		}
		largest, next := tileTokens, tiles
		if isa == AVX512 {
			largest, next = vnniTile, func(n int) (tokens, tile int) { return evenTile(n), evenTile(n) }
		}
		tilesMet := make([]int, largest+1)
		for draw := range draws {
			group := 32 * (1 + r.IntN(9))
			groups := 1 + r.IntN(300/group)
			if draw%20 == 0 { // more groups than a panel holds, and matrices that are fetched ahead
				group = 128 * (1 + draw/20%2)
				groups = 1 + 2*panelBytes/(RowBlock*group)
			}
			x := newMatrix(t, r, 1+r.IntN(300), groups*group, group).on(isa)
			x.randomize(r)
			n := 1 + r.IntN(40)
			k := x.tokens(r, n)
			x.check(t, k, 0, x.t.RowBlocks(), 0, n)
			lo, rowLo := r.IntN(n), r.IntN(x.t.RowBlocks())
			x.check(t, k, rowLo, x.t.RowBlocks(), lo, n)
			x.check(t, k, 0, rowLo+1, 0, lo+1)
			x.check(t, k, 0, x.t.RowBlocks(), lo, lo+1)
			if whole := x.t.M / RowBlock; whole > 0 {
				x.checkPanels(t, k, min(rowLo, whole-1), whole, lo, n)
				for left := n - lo; left > 0; {
					tokens, tile := next(left)
					tilesMet[tile]++
					left -= tokens
				}
			}
		}
		for tile, n := range tilesMet[1:] {
			if n == 0 {
				t.Errorf("no draw met tiles of %d tokens", tile+1)
			}
		}
	})
}

// randomize packs random codes, 3 included, or all of one, at a random address between random guards.
func (x *matrix) randomize(r *rand.Rand) {
	kind := r.IntN(6)
	for i := range x.codes {
		switch kind {
		case 0, 1, 2:
			x.codes[i] = byte(0x55 * kind)
		default:
			x.codes[i] = byte(r.Uint32())
		}
	}
	x.offset, x.guard = 1+r.IntN(63), byte(r.Uint32())
	x.pack()
}

// FuzzTernary draws a shape, the codes, the activations and the number of tokens from its inputs.
func FuzzTernary(f *testing.F) {
	f.Add(uint16(16), uint8(3), uint8(0), uint8(12), []byte{0, 0x55, 0xaa, 0xff}, []byte{0x81, 0x7f, 0, 3}, uint64(1))
	f.Add(uint16(32), uint8(3), uint8(2), uint8(5), []byte{0xe4}, []byte{0x7f}, uint64(2))
	f.Add(uint16(7), uint8(0), uint8(9), uint8(0), []byte{0xff, 0}, []byte{0x81}, uint64(3))
	f.Add(uint16(40), uint8(31), uint8(1), uint8(15), []byte{0xaa}, []byte{0x7f, 0x81}, uint64(4))
	f.Fuzz(func(t *testing.T, m uint16, width, groups, tokens uint8, codes, activations []byte, seed uint64) {
		needVectors(t)
		if len(codes) == 0 || len(activations) == 0 {
			return
		}
		eachISA(t, func(t *testing.T, isa ISA) { fuzzTernary(t, isa, m, width, groups, tokens, codes, activations, seed) })
	})
}

func fuzzTernary(t *testing.T, isa ISA, m uint16, width, groups, tokens uint8, codes, activations []byte, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	group := 32 * (1 + int(width)%40)
	x := newMatrix(t, r, 1+int(m)%100, group*(1+int(groups)%(1+2048/group)), group).on(isa)
	for i := range x.codes {
		x.codes[i] = codes[i%len(codes)]
	}
	x.offset, x.guard = int(seed%64), byte(seed>>8)
	x.pack()
	n := 1 + int(tokens)%28
	k := x.layOut(n)
	row := make([]float32, x.t.K)
	for i := range n {
		for j := range row {
			row[j] = float32(int8(activations[(i*len(row)+j)%len(activations)]))
		}
		x.t.Quantize(k, i, row)
	}
	x.check(t, k, 0, x.t.RowBlocks(), 0, n)
	if whole := x.t.M / RowBlock; whole > 0 && RowBlock*group <= panelBytes {
		x.checkPanels(t, k, 0, whole, 0, n)
	}
}
