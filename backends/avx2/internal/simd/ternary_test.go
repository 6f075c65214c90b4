package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// matrix is a random ternary matrix in both layouts.
type matrix struct {
	t      Ternary
	codes  []byte
	scales []float32
	offset int    // of the packed layout from a multiple of 64 bytes
	guard  byte   // what stands around it
	fenced []byte // it and its guards
	packed []byte
	from   int    // where it begins among them
	clean  []byte // codes without those of 3, which count as zeros
}

func newMatrix(tb testing.TB, r *rand.Rand, m, k, group int) *matrix {
	tb.Helper()
	t, ok := NewTernary(m, k, group)
	if !ok {
		tb.Fatalf("no kernel for %dx%d in groups of %d", m, k, group)
	}
	x := &matrix{t: t, codes: make([]byte, m*k/4), scales: make([]float32, m*k/group), guard: 0xaa}
	for i := range x.codes {
		for f := range 4 {
			x.codes[i] |= byte(r.IntN(3)) << (2 * f)
		}
	}
	for i := range x.scales {
		x.scales[i] = float32(r.NormFloat64())
	}
	x.pack()
	return x
}

// on chooses the kernels.
func (x *matrix) on(isa ISA) *matrix {
	x.t.ISA = isa
	return x
}

// guardBytes stand on either side of a packed matrix: more than the widest load.
const guardBytes = 128

func (x *matrix) pack() {
	x.fenced = slices.Repeat([]byte{x.guard}, x.t.PackedBytes()+2*guardBytes+128)
	x.from = guardBytes + int(-uintptr(unsafe.Pointer(&x.fenced[0]))&63) + x.offset
	x.packed = x.fenced[x.from : x.from+x.t.PackedBytes() : x.from+x.t.PackedBytes()]
	half := x.t.RowBlocks() / 2
	x.t.Repack(x.packed, x.codes, x.scales, half, x.t.RowBlocks())
	x.t.Repack(x.packed, x.codes, x.scales, 0, half)
	x.clean = make([]byte, len(x.codes))
	for i, c := range x.codes {
		for f := 0; f < 8; f += 2 {
			if c>>f&3 == 3 {
				c -= 2 << f
			}
		}
		x.clean[i] = c
	}
}

func (x *matrix) row(r int) (codes []byte, scales []float32) {
	per := x.t.K / x.t.Group
	return x.clean[r*x.t.K/4 : (r+1)*x.t.K/4], x.scales[r*per : (r+1)*per]
}

// layOut makes room for n tokens in memory that is not zero.
func (x *matrix) layOut(n int) *Tokens {
	k := x.t.Tokens(slices.Repeat([]byte{0x7b}, x.t.TokenBytes(n)), n)
	return &k
}

// tokens quantizes n random rows; the second is all +-1 and the third all ones, which give the extreme sums.
func (x *matrix) tokens(r *rand.Rand, n int) *Tokens {
	k := x.layOut(n)
	row := make([]float32, x.t.K)
	for i := range n {
		for j := range row {
			switch i {
			case 1:
				row[j] = float32(1 - 2*(j&1))
			case 2:
				row[j] = 1
			default:
				row[j] = float32(r.NormFloat64())
			}
		}
		x.t.Quantize(k, i, row)
	}
	return k
}

// setOffsets makes the offsets of token i those of its activations.
func (x *matrix) setOffsets(k *Tokens, i int) {
	offsets := k.Offsets[i*k.StrideOffsets:][:x.t.blocks()]
	blockOffsetsVec(offsets, k.Q[i*k.StrideQ:][:x.t.K], 16*x.t.steps)
	if x.t.vnni() {
		extendOffsets(offsets)
	}
}

// signs makes every activation of n tokens the largest there is: all positive, all negative, then both in turn.
func (x *matrix) signs(n int) *Tokens {
	k := x.layOut(n)
	row := make([]float32, x.t.K)
	for i := range n {
		for j := range row {
			row[j] = [][2]float32{{1, 1}, {-1, -1}, {1, -1}, {-1, 1}}[i%4][j%2]
		}
		x.t.Quantize(k, i, row)
	}
	return k
}

// check multiplies tokens lo to hi by the given row blocks and compares every bit with the definition, and what is
// around the result with what it was.
func (x *matrix) check(t *testing.T, k *Tokens, rowLo, rowHi, lo, hi int) {
	t.Helper()
	x.checkProduct(t, k, rowLo, rowHi, lo, hi, func(y []float32, ld int) {
		x.t.MatMul(y, ld, x.packed, k, rowLo, rowHi, lo, hi)
	})
}

// checkPanels is check of whole row blocks through the panels, however few the tokens; AVX-512 has none.
func (x *matrix) checkPanels(t *testing.T, k *Tokens, rowLo, rowHi, lo, hi int) {
	t.Helper()
	if x.t.vnni() {
		return
	}
	x.checkProduct(t, k, rowLo, rowHi, lo, hi, func(y []float32, ld int) {
		c := ternaryCall{t: &x.t, y: y, ldY: ld, k: k}
		c.panels(x.packed[rowLo*x.t.rowBlockBytes:rowHi*x.t.rowBlockBytes], rowLo, rowHi, lo, hi)
	})
}

func (x *matrix) checkProduct(t *testing.T, k *Tokens, rowLo, rowHi, lo, hi int, multiply func(y []float32, ld int)) {
	t.Helper()
	n, ld := len(k.Scales)+vnniTile, x.t.M+3 // a tile too many would meet the fence
	y := newFenced(n*ld, 17)
	multiply(y.x, ld)
	what := fmt.Sprintf("%dx%d group %d, tokens %d-%d, row blocks %d-%d", x.t.M, x.t.K, x.t.Group, lo, hi, rowLo, rowHi)
	for i := range n {
		for r := range ld {
			want := fence
			if i >= lo && i < hi && r >= rowLo*RowBlock && r < min(rowHi*RowBlock, x.t.M) {
				codes, scales := x.row(r)
				want = ternaryRef(codes, scales, x.t.Group, k.Q[i*k.StrideQ:], k.Scales[i])
			}
			if got := y.x[i*ld+r]; !same(got, want) {
				t.Fatalf("%s: token %d row %d is %x, want %x", what, i, r, got, want)
			}
		}
	}
	y.check(t, what)
	for i, b := range x.fenced {
		if (i < x.from || i >= x.from+len(x.packed)) && b != x.guard {
			t.Fatalf("%s: byte %d of the packed matrix of %d is written", what, i-x.from, len(x.packed))
		}
	}
}

func TestTernaryMatMulEqualsItsDefinition(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(21, 1))
		for _, s := range []struct{ m, k, group int }{
			{1, 32, 32},
			{16, 128, 128},
			{17, 128, 128},
			{15, 64, 64},
			{40, 256, 128},
			{33, 256, 256},
			{48, 768, 768},
			{20, 768, 128},
			{50, 96, 96},
			{31, 160, 160},
			{16, 160, 32},
			{19, 448, 224},
			{18, 1184, 1184},
			{16, 2304, 128},
			{24, 2560, 512},
			{16, 1920, 64},
			{35, 1280, 640},
			{16, 2080, 2080},
		} {
			x := newMatrix(t, r, s.m, s.k, s.group).on(isa)
			k := x.tokens(r, 14)
			for n := range 14 {
				x.check(t, k, 0, x.t.RowBlocks(), 0, n+1)
			}
			x.check(t, k, x.t.RowBlocks()/2, x.t.RowBlocks(), 3, 14)
			x.check(t, k, 0, (x.t.RowBlocks()+1)/2, 2, 14)
			x.check(t, k, 1, 1, 0, 14)
		}
	})
}

func TestTernaryMatMulOfManyTokensAndAnyRows(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(22, 1))
		for m := 1; m < 36; m += 2 {
			x := newMatrix(t, r, m, 128, []int{32, 64, 128}[m%3]).on(isa)
			x.check(t, x.tokens(r, 12+m%7), 0, x.t.RowBlocks(), 0, 12+m%7)
		}
		x := newMatrix(t, r, 20, 1280, 128).on(isa)
		x.check(t, x.tokens(r, 199), 0, 2, 0, 199)
		x = newMatrix(t, r, 20, 2560, 1280).on(isa)
		x.check(t, x.tokens(r, 97), 0, 2, 0, 97)
	})
}

func TestTokenKernelsEqualTheReferenceLoopOverPackedBlocks(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(20, 1))
	for _, s := range []struct{ k, group int }{{256, 128}, {512, 256}, {96, 32}, {192, 192}} {
		x := newMatrix(t, r, 48, s.k, s.group)
		k := x.tokens(r, 4)
		for n := 1; n <= 4; n++ {
			got, want := make([]float32, 4*50), make([]float32, 4*50)
			tokenBlocksRef(want, 50, x.packed, k.Q, k.StrideQ, k.Offsets, k.StrideOffsets, k.Scales[:n], 3, x.t.groups, x.t.per, x.t.steps)
			tokensKernel(got, 50, x.packed, k.Q, k.StrideQ, k.Offsets, k.StrideOffsets, k.Scales[:n], 3, x.t.groups, x.t.per, x.t.steps)
			compare(t, "kernel", [][]float32{got}, [][]float32{want})
		}
	}
}

func TestGemvVariantsEqualTheReferenceLoopOverPackedBlocks(t *testing.T) {
	needVectors(t)
	type gemv = func(y []float32, w []byte, q []int8, offsets []int32, act []float32, groups, per int)
	r := rand.New(rand.NewPCG(19, 1))
	for _, per := range []int{1, 2, 5} {
		x := newMatrix(t, r, 48, 1280, 128*per)
		k := x.tokens(r, 1)
		variants := map[string]gemv{"long": gemv128Long, "long with prefetch": gemv128LongPrefetch}
		if per == 1 {
			variants["plain"], variants["prefetch"] = gemv128, gemv128Prefetch
		}
		want := make([]float32, 48)
		tokenBlocksRef(want, 0, x.packed, k.Q, 0, k.Offsets, 0, k.Scales, 3, x.t.groups, x.t.per, x.t.steps)
		for name, f := range variants {
			got := newFenced(48, 1)
			f(got.x, x.packed, k.Q, k.Offsets, k.Scales, x.t.groups, x.t.per)
			compare(t, name, [][]float32{got.x}, [][]float32{want})
			got.check(t, name)
		}
	}
}

// The largest sums that 16 bits must hold: every level equal, every activation +-127.
func TestTernaryExtremesDoNotOverflow(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(23, 1))
		for _, group := range []int{128, 1024, 4096} {
			for _, code := range []byte{0x00, 0x55, 0xaa} {
				x := newMatrix(t, r, 16, 4096, group).on(isa)
				for i := range x.codes {
					x.codes[i] = code
				}
				x.pack()
				k := x.tokens(r, 13)
				for i, sign := range []int8{127, -127} {
					for j := range x.t.K {
						k.Q[i*k.StrideQ+j] = sign
					}
					x.setOffsets(k, i)
				}
				for n := 1; n <= 13; n++ {
					x.check(t, k, 0, 1, 0, n)
				}
				x.check(t, k, 0, 1, 1, 2)
			}
		}
	})
}

func TestTernaryDefinitionIsNearFloat64(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(24, 1))
		x := newMatrix(t, r, 16, 1024, 128).on(isa)
		row := random(r, 1024)
		k := x.t.Tokens(make([]byte, x.t.TokenBytes(1)), 1)
		x.t.Quantize(&k, 0, row)
		y := make([]float32, 16)
		x.t.MatMul(y, 16, x.packed, &k, 0, 1, 0, 1)
		w := make([]float32, 16*1024)
		for i := range w {
			w[i] = float32(int(x.codes[i/4]>>(i%4*2)&3)-1) * x.scales[i/128]
		}
		for i := range y {
			var want, bound float64
			for j, v := range row {
				want += float64(w[i*1024+j]) * float64(v)
				bound += math.Abs(float64(w[i*1024+j])) * float64(k.Scales[0]) / 2
			}
			within(t, "product with unquantized activations", y[i], want, bound)
		}
	})
}

func TestQuantizedTokensHoldTheRowAndItsOffsets(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(25, 1))
		for _, s := range []struct{ k, group int }{{32, 32}, {96, 96}, {768, 128}, {1184, 1184}} {
			x := newMatrix(t, r, 1, s.k, s.group).on(isa)
			k := x.tokens(r, 4)
			for i := range 4 {
				want := make([]int32, x.t.blocks())
				blockOffsetsRef(want, k.Q[i*k.StrideQ:], 16*x.t.steps)
				if isa == AVX512 {
					extendOffsets(want)
				}
				if got := k.Offsets[i*k.StrideOffsets:][:len(want)]; !slices.Equal(got, want) {
					t.Errorf("offsets of %d columns are %v, want %v", s.k, got, want)
				}
			}
		}
	})
}

// Quotients at, and a few units beside, the half integers, where an inexact division would round the other way.
func TestQuantizedTokensRoundAsADivisionDoes(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(29, 1))
		const n = 1024
		quantize, reference := quantizeTokenVec, quantizeTokenRef
		if isa == AVX512 {
			quantize, reference = quantizeToken512, quantizeToken512Ref
		}
		q, want, x := make([]int8, n), make([]int8, n), make([]float32, n)
		offsets, wantOffsets := make([]int32, n/128), make([]int32, n/128)
		for range 2000 {
			top := float32(math.Exp2(r.Float64()*60-30) * (1 + r.Float64()))
			if r.IntN(10) == 0 {
				top = []float32{1e-38, 1e-9, 3e38, math.MaxFloat32, 127, 254, math.SmallestNonzeroFloat32}[r.IntN(7)]
			}
			scale := max(top, 1e-8) * float32(1.0/127)
			for i := range x {
				near := scale * (float32(r.IntN(254)-127) + 0.5)
				x[i] = min(max(math.Float32frombits(math.Float32bits(near)+uint32(r.IntN(7))-3), -top), top)
			}
			x[r.IntN(n)] = -top
			if got := quantize(q, offsets, x); got != scale {
				t.Fatalf("scale is %g, want %g", got, scale)
			}
			if got := reference(want, wantOffsets, x); got != scale || !slices.Equal(offsets, wantOffsets) {
				t.Fatalf("reference scale is %g, want %g; offsets %v and %v", got, scale, offsets, wantOffsets)
			}
			if !slices.Equal(q, want) {
				for i := range q {
					if q[i] != want[i] {
						t.Fatalf("%x/%x gives %d, want %d", x[i], scale, q[i], want[i])
					}
				}
			}
		}
	})
}

func TestTokensWithoutAFiniteScale(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		x := newMatrix(t, rand.New(rand.NewPCG(30, 1)), 16, 128, 128).on(isa)
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			k := x.t.Tokens(make([]byte, x.t.TokenBytes(1)), 1)
			row := make([]float32, 128)
			row[3], row[100] = 1, float32(bad)
			x.t.Quantize(&k, 0, row)
			y := make([]float32, 16)
			x.t.MatMul(y, 16, x.packed, &k, 0, 1, 0, 1)
			for i, v := range y {
				if v == v {
					t.Errorf("with %g, element %d of the product is %g", bad, i, v)
				}
			}
			x.check(t, &k, 0, 1, 0, 1)
		}
	})
}

func TestNewTernaryRefusesWhatTheKernelsCannotDo(t *testing.T) {
	for _, s := range [][3]int{{16, 128, 0}, {16, 128, 48}, {16, 100, 100}, {16, 192, 128}, {16, 0, 32}, {-1, 128, 128}, {16, 128, -32}} {
		if _, ok := NewTernary(s[0], s[1], s[2]); ok {
			t.Errorf("%v was accepted", s)
		}
	}
}

func TestKernelsDoNotAllocate(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(27, 1))
		x := newMatrix(t, r, 40, 256, 128).on(isa)
		k := x.tokens(r, 60)
		y, row := make([]float32, 60*40), random(r, 256)
		h := make([]uint16, 255)
		if n := testing.AllocsPerRun(10, func() {
			for _, n := range []int{1, 3, 13, 60} {
				x.t.MatMul(y, 40, x.packed, k, 0, 3, 0, n)
			}
			x.t.Quantize(k, 0, row)
			SoftmaxRow(y[:20], row[:20])
			F32ToF16(h, row[:255])
			StreamWriteGrad(y[:16], y[16:24], y[24:28], y[28:30], row, row, row[:8], row, row, 2)
		}); n != 0 {
			t.Errorf("%g allocations", n)
		}
	})
}

// The tokens a caller may lay out by hand must not be read past K columns: a matrix of 32 columns next to fences.
func TestTokensAreReadWithinTheirColumns(t *testing.T) {
	needVectors(t)
	eachISA(t, func(t *testing.T, isa ISA) {
		r := rand.New(rand.NewPCG(28, 1))
		for _, k := range []int{32, 64, 160} {
			x := newMatrix(t, r, 16, k, k).on(isa)
			q := x.tokens(r, 1)
			first := make([]float32, 16)
			x.t.MatMul(first, 16, x.packed, q, 0, 1, 0, 1)
			for i := x.t.K; i < len(q.Q); i++ {
				q.Q[i] = -128
			}
			for i := x.t.blocks(); i < len(q.Offsets); i++ {
				q.Offsets[i] = -1
			}
			second := make([]float32, 16)
			x.t.MatMul(second, 16, x.packed, q, 0, 1, 0, 1)
			if fmt.Sprint(first) != fmt.Sprint(second) {
				t.Errorf("%d columns: %v, then %v", k, first, second)
			}
		}
	})
}
