package simd

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ternlm/tern/framework/tensor"
)

// halves rounds f to f16; widened are the same values as f32.
func halves(f []float32) (h []uint16, widened []float32) {
	h, widened = make([]uint16, len(f)), make([]float32, len(f))
	for i, v := range f {
		h[i] = tensor.F32ToF16(v)
		widened[i] = tensor.F16ToF32(h[i])
	}
	return h, widened
}

func TestRowDotsAreTheReferenceChains(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 1))
	for round := range 300 {
		blocks, k := r.IntN(12), 8*(1+r.IntN(20))
		ld, off := k+r.IntN(40), r.IntN(4)
		f := randFloats(r, max(1, 8*blocks*ld), off)
		h, widened := halves(f)
		x, n := randFloats(r, k, r.IntN(3)), 8*blocks
		want, wantHalf := make([]float32, n), make([]float32, n)
		rowDotsRef(want, x, f, ld, k, n)
		rowDotsRef(wantHalf, x, widened, ld, k, n)
		got, check := guarded(t, n, round%8)
		rowDots(got, x, f, ld, k, blocks, r.IntN(4*ld))
		sameBits(t, fmt.Sprintf("%d blocks of %d, %d apart", blocks, k, ld), got, want)
		rowDotsHalf(got, x, h, ld, k, blocks, r.IntN(4*ld))
		sameBits(t, fmt.Sprintf("f16: %d blocks of %d, %d apart", blocks, k, ld), got, wantHalf)
		rowDotsHalfRef(got, x, h, ld, k, n)
		sameBits(t, "f16 reference", got, wantHalf)
		check()
	}
}

func TestRowSumsAreTheReferenceChains(t *testing.T) {
	r := rand.New(rand.NewPCG(32, 1))
	for round := range 200 {
		d, n := 8*(1+r.IntN(20)), r.IntN(40)
		ld := d + r.IntN(30)
		f := randFloats(r, max(1, n)*ld, r.IntN(4))
		h, widened := halves(f)
		p, before := randFloats(r, n, r.IntN(3)), randFloats(r, d, 0)
		for _, first := range []bool{true, false} {
			for _, c := range []struct {
				rows Rows
				f    []float32
			}{{Rows{F32: f}, f}, {Rows{F16: h}, widened}} {
				want := append([]float32{}, before...)
				rowSumRef(d, want, p, c.f, ld, n, first)
				got, check := guarded(t, d, round%8)
				copy(got, before)
				c.rows.sum(got, p, 0, ld, n, d, r.IntN(100), first)
				sameBits(t, fmt.Sprintf("%d rows of %d, %d apart, first %v, f16 %v", n, d, ld, first, c.rows.F16 != nil), got, want)
				check()
				if c.rows.F16 != nil {
					copy(got, before)
					rowSumHalfRef(d, got, p, h, ld, n, first)
					sameBits(t, "f16 reference", got, want)
				}
			}
		}
	}
}

// A few tokens by panels as they are and many by widened ones must give the same bits.
func TestHalfPanelsHaveTheBitsOfGemm(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 1))
	for range 80 {
		n, k := 1+r.IntN(130), 1+r.IntN(100)
		if r.IntN(2) == 0 {
			k = 4 * (1 + r.IntN(60))
		}
		h, f := halves(randFloats(r, n*k, 0))
		x := randFloats(r, k, 1)
		g := Gemm{M: 1, N: n, K: k, TransB: true}
		want := make([]float32, n)
		runPhases(r, g.Phases(x, f, want, make([]byte, g.ScratchBytes())))
		panels := ceilDiv(n, panelCols)
		w := make(HalfPanels, HalfPanelLen(n, k))
		for i := range w {
			w[i] = 0x7e00 // not a number: everything is written
		}
		packed := r.IntN(panels + 1)
		w.Pack(h, n, k, packed, panels)
		w.Pack(h, n, k, 0, packed)

		cut := r.IntN(panels + 1)
		got, check := guarded(t, n, 0)
		w.Dots(got[min(cut*panelCols, n):], x, n, k, cut, panels)
		w.Dots(got, x, n, k, 0, cut)
		sameBits(t, fmt.Sprintf("%d rows of %d, cut at %d", n, k, cut), got, want)
		check()
		reference := make([]float32, panels*panelCols)
		panelDotsHalfRef(reference, x, w, k, panels)
		sameBits(t, "reference", reference[:n], want)
		checkWidened(t, r, w, f, n, k)
	}
}

// checkWidened compares rows and pieces of panels with the weights f [n,k] that they are made of.
func checkWidened(t *testing.T, r *rand.Rand, w HalfPanels, f []float32, n, k int) {
	t.Helper()
	row, at := make([]float32, k), r.IntN(n)
	w.Row(row, k, at)
	sameBits(t, "row", row, f[at*k:(at+1)*k])
	k0, panels := r.IntN(k), ceilDiv(n, panelCols)
	steps := 1 + r.IntN(k-k0)
	wide := make([]float32, panels*panelCols*steps)
	w.PackPanels(wide, k, 0, panels, k0, steps)
	for i, got := range wide {
		row, l, want := i/(panelCols*steps)*panelCols+i%panelCols, k0+i/panelCols%steps, float32(0)
		if row < n {
			want = f[row*k+l]
		}
		if got != want {
			t.Fatalf("panel element of row %d, step %d is %v, want %v", row, l, got, want)
		}
	}
}

func TestAttentionOverHalvesIsThatOverTheirValues(t *testing.T) {
	r := rand.New(rand.NewPCG(34, 1))
	for _, d := range []int{8, 12, 32, 40, 64, 96, 128} {
		for _, queries := range []int{1, 2, 4, 5, 33} {
			for _, s := range []int{queries, queries + 9, queries + 64} {
				a := Attention{B: 2, T: queries, S: s, H: 6, KV: 3, D: d, Workers: 2}
				o := newAttnOperands(r, a, s-queries)
				keys, k := halves(randFloats(r, len(o.k), 0))
				values, v := halves(randFloats(r, len(o.v), 0))
				want, got := make([]float32, len(o.q)), make([]float32, len(o.q))
				runPhases(r, a.Phases(o.q, Rows{F32: k}, Rows{F32: v}, o.pos, want, make([]byte, a.ScratchBytes())))
				a.Half = true
				runPhases(r, a.Phases(o.q, Rows{F16: keys}, Rows{F16: values}, o.pos, got, make([]byte, a.ScratchBytes())))
				sameBits(t, fmt.Sprintf("%+v", a), got, want)
			}
		}
	}
}

// One query at a time over the rows as they are, and all of them in tiles.
func TestFewQueriesHaveTheBitsOfTiles(t *testing.T) {
	r := rand.New(rand.NewPCG(35, 1))
	for _, d := range []int{8, 32, 64, 80, 128} {
		for _, kv := range []int{1, 2, 4} {
			const T = 77
			a := Attention{B: 1, T: T, S: T + r.IntN(20), H: 4, KV: kv, D: d, Workers: 2}
			o := newAttnOperands(r, a, 0)
			want := make([]float32, len(o.q))
			runPhases(r, a.Phases(o.q, Rows{F32: o.k}, Rows{F32: o.v}, o.pos, want, make([]byte, a.ScratchBytes())))
			for t0 := 0; t0 < T; {
				one := a
				one.T = min(1+r.IntN(fewQueries), T-t0)
				if a.few() || !one.few() {
					t.Fatal("the two do not take different ways")
				}
				lo, hi := t0*a.H*a.D, (t0+one.T)*a.H*a.D
				got := make([]float32, hi-lo)
				runPhases(r, one.Phases(o.q[lo:hi], Rows{F32: o.k}, Rows{F32: o.v}, []int32{int32(t0)}, got, make([]byte, one.ScratchBytes())))
				sameBits(t, fmt.Sprintf("%+v from %d", one, t0), got, want[lo:hi])
				t0 += one.T
			}
		}
	}
}

func TestDotsAllocateNothing(t *testing.T) {
	w := make(HalfPanels, HalfPanelLen(70, 64))
	x, y := make([]float32, 64), make([]float32, 70)
	if n := testing.AllocsPerRun(10, func() { w.Dots(y, x, 70, 64, 0, 5) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
