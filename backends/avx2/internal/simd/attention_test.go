package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// attnOperands are the operands of an attention and its backward pass.
type attnOperands struct {
	q, k, v, dout []float32
	pos           []int32
}

// newAttnOperands makes random operands; key and value rows that nobody sees hold large junk.
func newAttnOperands(r *rand.Rand, a Attention, pos int) attnOperands {
	nq, nk := a.B*a.T*a.H*a.D, a.B*a.S*a.KV*a.D
	o := attnOperands{q: randFloats(r, nq, 1), k: randFloats(r, nk, 2), v: randFloats(r, nk, 3), dout: randFloats(r, nq, 4)}
	for b := range a.B {
		p := max(0, pos-b)
		o.pos = append(o.pos, int32(p))
		for i := (b*a.S + p + a.T) * a.KV * a.D; i < (b+1)*a.S*a.KV*a.D; i++ {
			o.k[i], o.v[i] = 3e37*float32(1-2*(i&1)), -3e38
		}
	}
	return o
}

// attn64 is attention and its gradients by plain loops in float64.
type attn64 struct{ out, dq, dk, dv []float64 }

func attention64(a Attention, o attnOperands) attn64 {
	w := attn64{make([]float64, len(o.q)), make([]float64, len(o.q)), make([]float64, len(o.k)), make([]float64, len(o.k))}
	for b := range a.B {
		for t := range a.T {
			for h := range a.H {
				w.row(a, o, b, t, h)
			}
		}
	}
	return w
}

func (w *attn64) row(a Attention, o attnOperands, b, t, h int) {
	n, scale := int(o.pos[b])+t+1, 1/math.Sqrt(float64(a.D))
	qi := ((b*a.T+t)*a.H + h) * a.D
	ki := func(j int) int { return ((b*a.S+j)*a.KV + h/(a.H/a.KV)) * a.D }
	p, dp, sum, top := make([]float64, n), make([]float64, n), 0.0, math.Inf(-1)
	for j := range p {
		for d := range a.D {
			p[j] += float64(o.q[qi+d]) * float64(o.k[ki(j)+d]) * scale
			dp[j] += float64(o.dout[qi+d]) * float64(o.v[ki(j)+d])
		}
		top = max(top, p[j])
	}
	for j := range p {
		p[j] = math.Exp(p[j] - top)
		sum += p[j]
	}
	delta := 0.0
	for j := range p {
		p[j] /= sum
		delta += p[j] * dp[j]
	}
	for j := range p {
		ds := p[j] * (dp[j] - delta) * scale
		for d := range a.D {
			w.out[qi+d] += p[j] * float64(o.v[ki(j)+d])
			w.dq[qi+d] += ds * float64(o.k[ki(j)+d])
			w.dk[ki(j)+d] += ds * float64(o.q[qi+d])
			w.dv[ki(j)+d] += p[j] * float64(o.dout[qi+d])
		}
	}
}

func runAttention(r *rand.Rand, a Attention, o attnOperands, out []float32) {
	scratch := make([]byte, a.ScratchBytes())
	for i := range scratch {
		scratch[i] = 0x7f
	}
	runPhases(r, a.Phases(o.q, Rows{F32: o.k}, Rows{F32: o.v}, o.pos, out, scratch))
}

func runAttentionGrad(r *rand.Rand, a Attention, o attnOperands, dq, dk, dv []float32) {
	scratch := make([]byte, a.GradScratchBytes())
	for i := range scratch {
		scratch[i] = 0x7f
	}
	runPhases(r, a.GradPhases(o.q, o.k, o.v, o.pos, o.dout, dq, dk, dv, scratch))
}

// near fails unless got is within tol of want, relative to the largest of want.
func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	top := 0.0
	for _, w := range want {
		top = max(top, math.Abs(w))
	}
	for i := range got {
		if !(math.Abs(float64(got[i])-want[i]) <= tol*top) {
			t.Fatalf("%s: element %d is %v, want %v (largest %v)", what, i, got[i], want[i], top)
		}
	}
}

func attnCases() []Attention {
	var c []Attention
	for _, d := range []int{8, 12, 32, 64, 80, 128} {
		for _, t := range []int{1, 5, 17, 64} {
			if t == 64 && d != 12 && d != 80 {
				continue // tiles and panels, whole and ragged, are covered by these two
			}
			c = append(c, Attention{B: 2, T: t, H: 4, KV: 2, D: d, Workers: 2})
		}
	}
	return append(c,
		Attention{B: 1, T: 257, H: 2, KV: 2, D: 32, Workers: 2},
		Attention{B: 1, T: 257, H: 3, KV: 1, D: 20, Workers: 2},
		Attention{B: 1, T: 33, H: 112, KV: 1, D: 1, Workers: 2},
		Attention{B: 1, T: 3, H: 1, KV: 1, D: 16},
	)
}

func TestAttentionMatchesFloat64(t *testing.T) { eachISA(t, testAttentionMatchesFloat64) }

func testAttentionMatchesFloat64(t *testing.T, isa ISA) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, a := range attnCases() {
		for _, pos := range []int{0, 7, 300} {
			if pos == 300 && a.T*a.D > 17*32 {
				continue // nothing new, and slow in float64
			}
			a.S, a.ISA = a.T+pos+pos%5, isa
			o := newAttnOperands(r, a, pos)
			want := attention64(a, o)
			name := fmt.Sprintf("%+v at %d", a, pos)
			out, check := guarded(t, len(o.q), 3)
			runAttention(r, a, o, out)
			check()
			near(t, name+": out", out, want.out, 2e-6)
			dq, checkQ := guarded(t, len(o.q), 1)
			dk, checkK := guarded(t, len(o.k), 2)
			dv, checkV := guarded(t, len(o.k), 5)
			runAttentionGrad(r, a, o, dq, dk, dv)
			checkQ()
			checkK()
			checkV()
			near(t, name+": dq", dq, want.dq, 5e-6)
			near(t, name+": dk", dk, want.dk, 5e-6)
			near(t, name+": dv", dv, want.dv, 5e-6)
		}
	}
}

// TestAttentionRowDependsOnWhatItSees feeds a sequence at once, in chunks and one by one, with caches of other lengths.
func TestAttentionRowDependsOnWhatItSees(t *testing.T) {
	eachISA(t, testAttentionRowDependsOnWhatItSees)
}

func testAttentionRowDependsOnWhatItSees(t *testing.T, isa ISA) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, base := range []Attention{
		{B: 1, T: 330, S: 330, H: 2, KV: 1, D: 32, Workers: 2},
		{B: 1, T: 330, S: 330, H: 3, KV: 3, D: 12, Workers: 1},
		{B: 1, T: 110, S: 110, H: 8, KV: 1, D: 40, Workers: 2},
	} {
		base.ISA = isa
		whole := newAttnOperands(r, base, 0)
		want := make([]float32, len(whole.q))
		runAttention(r, base, whole, want)
		row := base.H * base.D
		for _, chunk := range []int{1, 5, 64, 100} {
			for t0 := base.T % 3; t0 < base.T; t0 += chunk {
				if chunk < 64 && t0%64 > 2 && t0%64 < 60 {
					continue // single rows near the edges of tiles are enough
				}
				a := base
				a.T, a.S = min(chunk, base.T-t0), t0+min(chunk, base.T-t0)+t0%40
				o := newAttnOperands(r, a, t0)
				copy(o.q, whole.q[t0*row:][:a.T*row])
				seen := (t0 + a.T) * a.KV * a.D
				copy(o.k[:seen], whole.k)
				copy(o.v[:seen], whole.v)
				got := make([]float32, len(o.q))
				runAttention(r, a, o, got)
				sameBits(t, fmt.Sprintf("%+v from %d", a, t0), got, want[t0*row:][:a.T*row])
			}
		}
	}
}

func TestAttentionGradDoesNotDependOnTheCacheLength(t *testing.T) {
	eachISA(t, testAttentionGradDoesNotDependOnTheCacheLength)
}

func testAttentionGradDoesNotDependOnTheCacheLength(t *testing.T, isa ISA) {
	r := rand.New(rand.NewPCG(3, 3))
	a := Attention{ISA: isa, B: 2, T: 130, S: 130, H: 4, KV: 2, D: 24, Workers: 2}
	o := newAttnOperands(r, a, 0)
	dq, dk, dv := make([]float32, len(o.q)), make([]float32, len(o.k)), make([]float32, len(o.k))
	runAttentionGrad(r, a, o, dq, dk, dv)
	long := a
	long.S = 200
	l := newAttnOperands(r, long, 0)
	copy(l.q, o.q)
	copy(l.dout, o.dout)
	perBatch, perLong := len(o.k)/2, len(l.k)/2
	for b := range 2 {
		copy(l.k[b*perLong:], o.k[b*perBatch:][:perBatch])
		copy(l.v[b*perLong:], o.v[b*perBatch:][:perBatch])
	}
	dq2, dk2, dv2 := make([]float32, len(l.q)), make([]float32, len(l.k)), make([]float32, len(l.k))
	runAttentionGrad(r, long, l, dq2, dk2, dv2)
	sameBits(t, "dq", dq2, dq)
	for b := range 2 {
		sameBits(t, "dk", dk2[b*perLong:][:perBatch], dk[b*perBatch:][:perBatch])
		sameBits(t, "dv", dv2[b*perLong:][:perBatch], dv[b*perBatch:][:perBatch])
		sameBits(t, "dk beyond", dk2[b*perLong+perBatch:][:perLong-perBatch], make([]float32, perLong-perBatch))
	}
}

func TestAttentionSurvivesPositionsOutOfRange(t *testing.T) {
	eachISA(t, testAttentionSurvivesPositionsOutOfRange)
}

func testAttentionSurvivesPositionsOutOfRange(t *testing.T, isa ISA) {
	r := rand.New(rand.NewPCG(4, 4))
	a := Attention{ISA: isa, B: 3, T: 9, S: 12, H: 2, KV: 1, D: 8, Workers: 1}
	o := newAttnOperands(r, a, 0)
	o.pos = []int32{-5, math.MaxInt32, math.MinInt32}
	for i := range o.k {
		o.k[i], o.v[i] = 1, 2
	}
	out := make([]float32, len(o.q))
	runAttention(r, a, o, out)
	runAttentionGrad(r, a, o, make([]float32, len(o.q)), make([]float32, len(o.k)), make([]float32, len(o.k)))
	for i, v := range out {
		b, row := i/(len(out)/3), i/16%9
		want := float32(2)
		if b == 2 || b == 0 && row < 5 {
			want = 0
		}
		if math.Abs(float64(v-want)) > 1e-5 {
			t.Fatalf("batch %d row %d is %v, want %v", b, row, v, want)
		}
	}
}

func TestRowRoutinesMatchReference(t *testing.T) { eachISA(t, testRowRoutinesMatchReference) }

func testRowRoutinesMatchReference(t *testing.T, isa ISA) {
	exp := expOf(isa)
	r := rand.New(rand.NewPCG(5, 5))
	for n := range 66 {
		for _, off := range []int{0, 1, 3} {
			width := roundUp(n, 8) + 8*(n%3)
			x, check := guarded(t, width, off)
			for i := range x {
				x[i] = float32(r.NormFloat64() * 30)
			}
			if n > 2 {
				x[n/2] = -1e4
			}
			y := append([]float32(nil), x...)
			top := attnMax(x, n)
			sameBits(t, "attnMax", []float32{top}, []float32{attnMaxRef(y, n)})
			sum, want := exp(x, n, width, 0.3, top), attnExpRef(y, n, width, 0.3, top)
			check()
			sameBits(t, "attnExp", append(x, sum), append(y, want))

			p, checkP := guarded(t, width, off)
			dp, checkDP := guarded(t, width, 3-off)
			for i := range p {
				p[i], dp[i] = r.Float32(), float32(r.NormFloat64())
				if i >= n {
					dp[i] = float32(math.Inf(1))
				}
			}
			p2, dp2 := append([]float32(nil), p...), append([]float32(nil), dp...)
			attnGrad(p, dp, n, width, 0.7, 0.25)
			attnGradRef(p2, dp2, n, width, 0.7, 0.25)
			checkP()
			checkDP()
			sameBits(t, "attnGrad p", p, p2)
			sameBits(t, "attnGrad dp", dp, dp2)

			d, checkD := guarded(t, n, off)
			z := randFloats(r, n, 1)
			if n > 0 {
				z[n-1] = float32(math.Copysign(0, -1))
			}
			d2 := make([]float32, n)
			attnScale(d, z, n, 1.7)
			attnScaleRef(d2, z, n, 1.7)
			checkD()
			sameBits(t, "attnScale", d, d2)
		}
	}
}

// expOf is the routine of attnExpRef.
func expOf(isa ISA) func(x []float32, n, width int, scale, top float32) float32 {
	if isa == AVX512 {
		return attnExp512
	}
	return attnExp
}

func TestRowExpIsAccurate(t *testing.T) { eachISA(t, testRowExpIsAccurate) }

func testRowExpIsAccurate(t *testing.T, isa ISA) {
	exp := expOf(isa)
	worst := 0.0
	x := make([]float32, 8)
	for v := float32(0); v > -87.3; v -= 0.00137 {
		x[3] = v
		exp(x, 4, 8, 1, 0)
		want := math.Exp(float64(v))
		worst = max(worst, math.Abs(float64(x[3])-want)/want)
	}
	if worst > 1.2e-7 {
		t.Errorf("relative error %g", worst)
	}
	nan := float32(math.NaN())
	x = []float32{nan, -200, float32(math.Inf(-1)), 0, 0, 0, 0, 0}
	exp(x, 4, 8, 1, 0)
	if x[0] == x[0] || x[1] != 0 || x[2] != 0 || x[3] != 1 {
		t.Errorf("special values: %v", x)
	}
}

func TestAttentionRunsWithoutAllocating(t *testing.T) { eachISA(t, testAttentionRunsWithoutAllocating) }

func testAttentionRunsWithoutAllocating(t *testing.T, isa ISA) {
	a := Attention{ISA: isa, B: 1, T: 20, S: 20, H: 2, KV: 1, D: 12, Workers: 2}
	o := newAttnOperands(rand.New(rand.NewPCG(6, 6)), a, 0)
	buf := func() []float32 { return make([]float32, len(o.q)) }
	phases := a.Phases(o.q, Rows{F32: o.k}, Rows{F32: o.v}, o.pos, buf(), make([]byte, a.ScratchBytes()))
	phases = append(phases, a.GradPhases(o.q, o.k, o.v, o.pos, o.dout, buf(), buf(), buf(), make([]byte, a.GradScratchBytes()))...)
	n := testing.AllocsPerRun(10, func() {
		for _, p := range phases {
			p.Do(0, p.Items)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

// TestAssemblyUsesOnlyAVX2Registers guards against the generator's register allocator, which takes Y16 and up, AVX-512's,
// when it runs out. Files of AVX-512 may use them.
func TestAssemblyUsesOnlyAVX2Registers(t *testing.T) {
	files, err := filepath.Glob("*_amd64.s")
	if err != nil || len(files) == 0 {
		t.Fatalf("no assembly found: %v", err)
	}
	high := regexp.MustCompile(`\b([XY](1[6-9]|2[0-9]|3[01])|Z[0-9]+|K[0-7])\b`)
	for _, f := range files {
		if strings.HasSuffix(f, "512_amd64.s") {
			continue
		}
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if m := high.Find(src); m != nil {
			t.Errorf("%s uses %s", f, m)
		}
	}
}
