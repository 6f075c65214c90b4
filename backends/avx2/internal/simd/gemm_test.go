package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// randFloats fills a new slice that starts off bytes of a vector past alignment, with guard words around it.
func randFloats(r *rand.Rand, n, off int) []float32 {
	s := make([]float32, n+off)[off:]
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

const guard = float32(-77.25)

// guarded returns n junk floats and a check that nothing around them was written.
func guarded(t *testing.T, n, off int) (s []float32, check func()) {
	t.Helper()
	all := make([]float32, n+off+16)
	for i := range all {
		all[i] = guard
	}
	return all[off : off+n : off+n], func() {
		t.Helper()
		for i, v := range all {
			if (i < off || i >= off+n) && v != guard {
				t.Fatalf("wrote outside: element %d of %d", i-off, n)
			}
		}
	}
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// product64 is the row-major product in float64, and for each element the sum of magnitudes.
func product64(g Gemm, a, b []float32) (c, mag []float64) {
	c, mag = make([]float64, g.M*g.N), make([]float64, g.M*g.N)
	for i := range g.M {
		for j := range g.N {
			for l := range g.K {
				ai, bi := i*g.K+l, l*g.N+j
				if g.TransA {
					ai = l*g.M + i
				}
				if g.TransB {
					bi = j*g.K + l
				}
				p := float64(a[ai]) * float64(b[bi])
				c[i*g.N+j] += p
				mag[i*g.N+j] += math.Abs(p)
			}
		}
	}
	return c, mag
}

// runPhases runs phases in pieces of random size, to show that the split does not matter.
func runPhases(r *rand.Rand, phases []Phase) {
	for _, p := range phases {
		for lo := 0; lo < p.Items; {
			hi := lo + 1 + r.IntN(p.Items-lo)
			p.Do(lo, hi)
			lo = hi
		}
	}
}

func runGemm(r *rand.Rand, g Gemm, a, b, c []float32) {
	scratch := make([]byte, g.ScratchBytes())
	for i := range scratch {
		scratch[i] = 0x7f // a huge float: what is read before it is written shows
	}
	runPhases(r, g.Phases(a, b, c, scratch))
}

func gemmShapes() [][3]int {
	var s [][3]int
	for _, m := range []int{1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 100, 197} {
		for _, n := range []int{1, 15, 16, 17, 64, 95, 130} {
			s = append(s, [3]int{m, n, 1 + (m*n)%67})
		}
	}
	return append(s, [3]int{7, 33, 0}, [3]int{0, 4, 4}, [3]int{4, 0, 4}, [3]int{3, 70, 901}, [3]int{101, 40, 901}, [3]int{200, 600, 33}, [3]int{1100, 24, 3}, [3]int{14, 70, 1024})
}

func TestGemmMatchesFloat64(t *testing.T) { eachISA(t, testGemmMatchesFloat64) }

func testGemmMatchesFloat64(t *testing.T, isa ISA) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, shape := range gemmShapes() {
		for trans := range 4 {
			g := Gemm{ISA: isa, M: shape[0], N: shape[1], K: shape[2], TransA: trans&1 != 0, TransB: trans&2 != 0, Workers: 2}
			a, b := randFloats(r, g.M*g.K, 1), randFloats(r, g.N*g.K, 3)
			want, mag := product64(g, a, b)
			c, check := guarded(t, g.M*g.N, 5)
			runGemm(r, g, a, b, c)
			check()
			for i := range c {
				if math.Abs(float64(c[i])-want[i]) > 1e-6*mag[i]+1e-30 {
					t.Fatalf("%+v: element %d is %v, want %v", g, i, c[i], want[i])
				}
			}
			packed := g
			packed.Packed = true
			pb := make([]float32, PackedBLen(g.N, g.K))
			PackB(pb, b, g.N, g.K, g.TransB, 0, (g.N+15)/16)
			c2, check2 := guarded(t, g.M*g.N, 2)
			runGemm(r, packed, a, pb, c2)
			check2()
			sameBits(t, fmt.Sprintf("%+v packed", g), c2, c)
		}
	}
}

// TestGemmIsOneChain compares with the definition, bit for bit.
func TestGemmIsOneChain(t *testing.T) { eachISA(t, testGemmIsOneChain) }

func testGemmIsOneChain(t *testing.T, isa ISA) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, m := range []int{1, 5, 8} {
		g := Gemm{ISA: isa, M: m, N: 35, K: 811, TransB: true}
		a, b, c := randFloats(r, g.M*g.K, 0), randFloats(r, g.N*g.K, 0), make([]float32, g.M*g.N)
		runGemm(r, g, a, b, c)
		for i := range g.M {
			for j := range g.N {
				var acc float32
				for l := range g.K {
					acc = fma32(a[i*g.K+l], b[j*g.K+l], acc)
				}
				if acc != c[i*g.N+j] {
					t.Fatalf("element %d,%d is %v, want %v", i, j, c[i*g.N+j], acc)
				}
			}
		}
	}
}

func TestGemmRowDoesNotDependOnTheOthers(t *testing.T) {
	eachISA(t, testGemmRowDoesNotDependOnTheOthers)
}

func testGemmRowDoesNotDependOnTheOthers(t *testing.T, isa ISA) {
	const m, n, k = 203, 83, 431
	r := rand.New(rand.NewPCG(5, 6))
	a, b := randFloats(r, m*k, 0), randFloats(r, n*k, 0)
	at := make([]float32, m*k)
	packTransposeRef(at, a, k, k, m)
	bt := make([]float32, n*k)
	packTransposeRef(bt, b, k, k, n)
	want := make([]float32, m*n)
	runGemm(r, Gemm{ISA: isa, M: m, N: n, K: k, TransB: true}, a, b, want)
	got := make([]float32, m*n)
	runGemm(r, Gemm{ISA: isa, M: m, N: n, K: k, TransA: true}, at, bt, got)
	sameBits(t, "transposed A", got, want)
	for rows := 1; rows <= 13; rows++ {
		for _, i := range []int{0, 5, 100, m - rows} {
			c := make([]float32, rows*n)
			runGemm(r, Gemm{ISA: isa, M: rows, N: n, K: k}, a[i*k:][:rows*k], bt, c)
			sameBits(t, fmt.Sprintf("%d rows from %d", rows, i), c, want[i*n:][:rows*n])
		}
	}
}

func TestKernelsMatchReference(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for k := range 18 {
		for rows := 1; rows <= 6; rows++ {
			for _, first := range []bool{true, false} {
				const ldc, rs, cs, ts = 21, 23, 2, 150
				tiles := 1
				if rows == 6 {
					tiles = 3
				}
				a, b := randFloats(r, 3*ts+rs*6+cs*18, 1), randFloats(r, 16*18, 3)
				n := (tiles*rows-1)*ldc + 16
				got, check := guarded(t, n, 3)
				want := append([]float32(nil), got...)
				if rows == 6 {
					gemmTilesRef(want, ldc, a, rs, cs, b, k, tiles, ts, first)
					gemm6x16(got, ldc, a, rs, cs, b, k, tiles, ts, b, first)
				} else {
					gemmTileRef(want, ldc, a, rs, cs, b, k, rows, first)
					s := strip{k: k, rs: rs, cs: cs, first: first}
					s.rowsOf(rows, got, ldc, a, b)
				}
				check()
				sameBits(t, fmt.Sprintf("%d rows, k %d, first %v", rows, k, first), got, want)
			}
		}
	}
}

func TestWideKernelsMatchReference(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for k := range 18 {
		for rows := 1; rows <= 3; rows++ {
			for _, first := range []bool{true, false} {
				const ldc, ldp = 77, 16*18 + 5
				panels := []int{0, 4, 2, 2}[rows]
				a, b := randFloats(r, 3*23+2*18, 1), randFloats(r, 4*ldp, 3)
				got, check := guarded(t, (rows-1)*ldc+16*panels, 1)
				want := append([]float32(nil), got...)
				gemmPanelsRef(want, ldc, a, 23, 2, b, ldp, k, rows, panels, first)
				switch rows {
				case 1:
					gemm1x64(got, ldc, a, 23, 2, b, ldp, k, first)
				case 2:
					gemm2x32(got, ldc, a, 23, 2, b, ldp, k, first)
				case 3:
					gemm3x32(got, ldc, a, 23, 2, b, ldp, k, first)
				}
				check()
				sameBits(t, fmt.Sprintf("%d rows, k %d, first %v", rows, k, first), got, want)
			}
		}
	}
}

func TestPackingMatchesReference(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for k := 1; k <= 65; k++ {
		const ld = 83
		src := randFloats(r, 66*ld, 1)
		got, check := guarded(t, 16*k, 3)
		want := make([]float32, 16*k)
		if k%8 == 0 {
			packTranspose16(got, src, ld, k)
			packTransposeRef(want, src, ld, k, 16)
			check()
			sameBits(t, "packTranspose16", got, want)
		}
		for rows := 1; rows <= 5 && k >= 8; rows++ {
			stride := k + rows
			got, check := guarded(t, (rows-1)*stride+k, 2)
			want := append([]float32(nil), got...)
			copyRows(got, stride, src, ld, k, rows)
			copyRowsRef(want, stride, src, ld, k, rows)
			check()
			sameBits(t, "copyRows", got, want)
		}
		for slivers := 1; slivers <= 4; slivers++ {
			stride := 6*k + slivers
			got, check := guarded(t, (slivers-1)*stride+6*k, 1)
			want := append([]float32(nil), got...)
			packSlivers6(got, stride, src, ld, k, slivers)
			packSliversRef(want, stride, src, ld, k, slivers, 6)
			check()
			sameBits(t, "packSlivers6", got, want)
			stride = 12*k + slivers
			got, check = guarded(t, (slivers-1)*stride+12*k, 1)
			want = append([]float32(nil), got...)
			packSlivers12(got, stride, src, ld, k, slivers)
			packSliversRef(want, stride, src, ld, k, slivers, 12)
			check()
			sameBits(t, "packSlivers12", got, want)
			stride = 16*k + slivers
			got, check = guarded(t, (slivers-1)*stride+16*k, 1)
			want = append([]float32(nil), got...)
			packCopy16(got, stride, src, ld, k, slivers)
			packSliversRef(want, stride, src, ld, k, slivers, 16)
			check()
			sameBits(t, "packCopy16", got, want)
		}
	}
}

func TestFMA32RoundsOnce(t *testing.T) {
	const ulp = 1.0 / (1 << 23)
	for _, c := range []struct{ a, b, c, want float32 }{
		{1 + ulp, 1 + ulp, 0, 1 + 2*ulp},
		{1 + ulp, 1 + ulp, -(1 + 2*ulp), ulp * ulp},
		// the exact sum is a hair above half an ulp: rounding to float64 first would lose the hair
		{97, 172961, 0x1p-80, 1<<24 + 2},
		{97, 172961, -0x1p-80, 1 << 24},
		{-97, 172961, -0x1p-80, -(1<<24 + 2)},
		{1, 1 << 24, 1, 1 << 24},
		{1, 1<<24 + 2, 1, 1<<24 + 4},
		{-1, 1 << 24, -1, -(1 << 24)},
		{float32(math.Inf(1)), 1, 1, float32(math.Inf(1))},
	} {
		if got := fma32(c.a, c.b, c.c); got != c.want {
			t.Errorf("fma32(%v, %v, %v) = %v, want %v", c.a, c.b, c.c, got, c.want)
		}
	}
}

func TestGemmRunsWithoutAllocating(t *testing.T) { eachISA(t, testGemmRunsWithoutAllocating) }

func testGemmRunsWithoutAllocating(t *testing.T, isa ISA) {
	g := Gemm{ISA: isa, M: 70, N: 70, K: 70, TransA: true, Workers: 2}
	phases := g.Phases(make([]float32, 4900), make([]float32, 4900), make([]float32, 4900), make([]byte, g.ScratchBytes()))
	n := testing.AllocsPerRun(10, func() {
		for _, p := range phases {
			p.Do(0, p.Items)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

func TestGemmRefusesShortOperands(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	g := Gemm{M: 2, N: 2, K: 2}
	g.Phases(make([]float32, 3), make([]float32, 4), make([]float32, 4), make([]byte, g.ScratchBytes()))
}

func TestGemmHasWorkForEveryWorker(t *testing.T) { eachISA(t, testGemmHasWorkForEveryWorker) }

func testGemmHasWorkForEveryWorker(t *testing.T, isa ISA) {
	for _, shape := range [][3]int{{192, 192, 4096}, {64, 512, 512}, {1, 2048, 768}, {4096, 192, 192}} {
		g := Gemm{ISA: isa, M: shape[0], N: shape[1], K: shape[2], Packed: true, Workers: 2}
		p := g.Phases(make([]float32, g.M*g.K), make([]float32, PackedBLen(g.N, g.K)), make([]float32, g.M*g.N), make([]byte, g.ScratchBytes()))
		if n := p[len(p)-1].Items; n < 2 {
			t.Errorf("%v: %d items", shape, n)
		}
	}
}

func TestSymmetricGemmGivesTheBitsOfAnyOther(t *testing.T) {
	eachISA(t, testSymmetricGemmGivesTheBitsOfAnyOther)
}

func testSymmetricGemmGivesTheBitsOfAnyOther(t *testing.T, isa ISA) {
	r := rand.New(rand.NewPCG(9, 9))
	for _, n := range []int{1, 5, 16, 31, 97, 200, 411} {
		for _, k := range []int{1, 33, 500} {
			for _, transA := range []bool{false, true} {
				g := Gemm{ISA: isa, M: n, N: n, K: k, TransA: transA, TransB: !transA, Workers: 3}
				a := randFloats(r, n*k, 1)
				want := make([]float32, n*n)
				runGemm(r, g, a, a, want)
				g.Symmetric = true
				got, check := guarded(t, n*n, 3)
				runGemm(r, g, a, a, got)
				check()
				sameBits(t, fmt.Sprintf("%+v", g), got, want)
			}
		}
	}
}
