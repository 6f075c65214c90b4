package simd

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestKernels512MatchReference runs every kernel, with whole and cut last panels, next to guard words.
func TestKernels512MatchReference(t *testing.T) {
	needISA(t, AVX512)
	r := rand.New(rand.NewPCG(17, 18))
	for _, panels := range []int{1, 2, 4} {
		for rows := 1; rows < len(gemm512[panels]) && rows <= tileRows512; rows++ {
			for _, k := range []int{0, 1, 2, 3, 4, 5, 8, 11, 47, 48, 53} { // from 48 on the largest fetches rows of c
				if k < 12 || rows == tileRows512 {
					testKernel512(t, r, panels, rows, k)
				}
			}
		}
	}
}

func testKernel512(t *testing.T, r *rand.Rand, panels, rows, k int) {
	const ldc, rs, cs, ts, ldp = 70, 123, 2, 1501, 16*53 + 5
	for _, first := range []bool{true, false} {
		for _, missing := range []int{0, 1, 7, 8, 15} {
			tiles := 1 + r.IntN(3)
			cols := panels*panelCols - missing
			a, b := randFloats(r, tiles*ts+rs*tileRows512+cs*53, 1), randFloats(r, 4*ldp, 3)
			got, check := guarded(t, (tiles*rows-1)*ldc+cols, r.IntN(16))
			want := append([]float32(nil), got...)
			gemm512[panels][rows](got, ldc, a, rs, cs, b, ldp, k, tiles, ts, b, cols, first)
			gemm512Ref(rows)(want, ldc, a, rs, cs, b, ldp, k, tiles, ts, b, cols, first)
			check()
			sameBits(t, fmt.Sprintf("%d rows, %d columns, k %d, %d tiles, first %v", rows, cols, k, tiles, first), got, want)
		}
	}
}

// TestGemmHasTheBitsOfAVX2 compares the two instruction sets over random shapes and forms.
func TestGemmHasTheBitsOfAVX2(t *testing.T) {
	needISA(t, AVX512)
	if !havePanels {
		t.Skip("without assembly both are the reference loop")
	}
	r := rand.New(rand.NewPCG(19, 20))
	for range 60 {
		g := Gemm{M: 1 + r.IntN(300), N: 1 + r.IntN(300), K: r.IntN(2000), TransA: r.IntN(2) > 0, TransB: r.IntN(2) > 0, Accumulate: r.IntN(4) == 0, Workers: 1 + r.IntN(3)}
		a, b := randFloats(r, g.M*g.K, 1), randFloats(r, g.N*g.K, 2)
		got, check := guarded(t, g.M*g.N, r.IntN(16))
		want := append([]float32(nil), got...)
		runGemm(r, g, a, b, want)
		g.ISA = AVX512
		runGemm(r, g, a, b, got)
		check()
		sameBits(t, fmt.Sprintf("%+v", g), got, want)
	}
}

// TestAttentionHasTheBitsOfAVX2 compares the two instruction sets, forward and back.
func TestAttentionHasTheBitsOfAVX2(t *testing.T) {
	needISA(t, AVX512)
	if !havePanels {
		t.Skip("without assembly both are the reference loop")
	}
	r := rand.New(rand.NewPCG(21, 22))
	for _, a := range attnCases() {
		for _, pos := range []int{0, 41} {
			a.S = a.T + pos + pos%5
			o := newAttnOperands(r, a, pos)
			run := func(isa ISA) (out, dq, dk, dv []float32) {
				a.ISA = isa
				out, dq = make([]float32, len(o.q)), make([]float32, len(o.q))
				dk, dv = make([]float32, len(o.k)), make([]float32, len(o.k))
				runAttention(r, a, o, out)
				runAttentionGrad(r, a, o, dq, dk, dv)
				return out, dq, dk, dv
			}
			out, dq, dk, dv := run(AVX512)
			wantOut, wantQ, wantK, wantV := run(AVX2)
			name := fmt.Sprintf("%+v at %d: ", a, pos)
			sameBits(t, name+"out", out, wantOut)
			sameBits(t, name+"dq", dq, wantQ)
			sameBits(t, name+"dk", dk, wantK)
			sameBits(t, name+"dv", dv, wantV)
		}
	}
}
