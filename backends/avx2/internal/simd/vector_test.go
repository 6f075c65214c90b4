package simd

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/cpuid/v2"
)

// needVectors skips where the build would run instructions the processor lacks.
func needVectors(t testing.TB) {
	t.Helper()
	if runtime.GOARCH == "amd64" && !cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3, cpuid.F16C) {
		t.Skip("no AVX2, FMA and F16C")
	}
}

var specials = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 126.5, 127, -127.5, 88.72, 88.73, 89, -87.3, -87.4, -103.9, -104, -200,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.MaxFloat32, -math.MaxFloat32,
	math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 0x1p-126, 0x1.fffffep-127, 1e30, -1e30,
}

const fence = float32(-7.25e11)

// fenced is a slice of n elements, offset elements away from the start of its memory, with guard words around it.
type fenced struct {
	all, x []float32
	offset int
}

func newFenced(n, offset int) fenced {
	all := make([]float32, n+offset+9)
	for i := range all {
		all[i] = fence
	}
	return fenced{all, all[offset : offset+n : offset+n], offset}
}

func (g fenced) check(t *testing.T, what string) {
	t.Helper()
	for i, v := range g.all {
		if (i < g.offset || i >= g.offset+len(g.x)) && v != fence {
			t.Fatalf("%s: wrote outside its slice, at %d of %d", what, i-g.offset, len(g.x))
		}
	}
}

func fill(r *rand.Rand, x []float32, withSpecials bool) {
	for i := range x {
		x[i] = float32(r.NormFloat64() * math.Exp2(float64(r.IntN(8)-4)))
		if withSpecials && r.IntN(4) == 0 {
			x[i] = specials[r.IntN(len(specials))]
		}
	}
}

func same(x, y float32) bool {
	return math.Float32bits(x) == math.Float32bits(y) || x != x && y != y
}

// routine is one elementwise function under a common signature: outputs, inputs, scalars.
type routine struct {
	name           string
	out, in, param int
	got, want      func(out, in [][]float32, c []float32)
}

func unaryRoutine(name string, got, want func(dst, x []float32)) routine {
	return routine{
		name, 1, 1, 0,
		func(o, i [][]float32, _ []float32) { got(o[0], i[0]) },
		func(o, i [][]float32, _ []float32) { want(o[0], i[0]) },
	}
}

func binaryRoutine(name string, got, want func(dst, x, y []float32)) routine {
	return routine{
		name, 1, 2, 0,
		func(o, i [][]float32, _ []float32) { got(o[0], i[0], i[1]) },
		func(o, i [][]float32, _ []float32) { want(o[0], i[0], i[1]) },
	}
}

func scalarRoutine(name string, got, want func(dst, x []float32, c float32)) routine {
	return routine{
		name, 1, 1, 1,
		func(o, i [][]float32, c []float32) { got(o[0], i[0], c[0]) },
		func(o, i [][]float32, c []float32) { want(o[0], i[0], c[0]) },
	}
}

func routines() []routine {
	return []routine{
		binaryRoutine("add", Add, addRef), binaryRoutine("sub", Sub, subRef), binaryRoutine("mul", Mul, mulRef), binaryRoutine("div", Div, divRef),
		binaryRoutine("max", Max, maxRef), binaryRoutine("min", Min, minRef),
		unaryRoutine("neg", Neg, negRef), unaryRoutine("abs", Abs, absRef), unaryRoutine("sqrt", Sqrt, sqrtRef), unaryRoutine("rsqrt", Rsqrt, rsqrtRef),
		unaryRoutine("round", Round, roundRef), unaryRoutine("exp", Exp, expVecRef), unaryRoutine("log", Log, logVecRef), unaryRoutine("sigmoid", Sigmoid, sigmoidVecRef),
		scalarRoutine("addS", AddS, addSRef), scalarRoutine("mulS", MulS, mulSRef), scalarRoutine("divS", DivS, divSRef),
		scalarRoutine("subS", SubS, func(d, x []float32, c float32) { addSRef(d, x, -c) }),
		scalarRoutine("rsubS", RSubS, rsubSRef), scalarRoutine("rdivS", RDivS, rdivSRef),
		scalarRoutine("maxS", MaxS, maxSRef), scalarRoutine("minS", MinS, minSRef),
		scalarRoutine("fakeQuant", fakeQuantVec, fakeQuantRef),
		{
			"mulAdd", 1, 3, 0,
			func(o, i [][]float32, _ []float32) { MulAdd(o[0], i[0], i[1], i[2]) },
			func(o, i [][]float32, _ []float32) { mulAddRef(o[0], i[0], i[1], i[2]) },
		},
		{
			"expScale", 1, 1, 2,
			func(o, i [][]float32, c []float32) { ExpScale(o[0], i[0], c[0], c[1]) },
			func(o, i [][]float32, c []float32) { expScaleRef(o[0], i[0], c[0], c[1]) },
		},
		binaryRoutine("swiglu", SwiGLU, swigluRef),
		{
			"swigluGrad", 2, 3, 0,
			func(o, i [][]float32, _ []float32) { SwiGLUGrad(o[0], o[1], i[0], i[1], i[2]) },
			func(o, i [][]float32, _ []float32) { swigluGradRef(o[0], o[1], i[0], i[1], i[2]) },
		},
		{
			"rmsScale", 1, 2, 1,
			func(o, i [][]float32, c []float32) { rmsScaleVec(o[0], i[0], i[1], c[0]) },
			func(o, i [][]float32, c []float32) { rmsScaleRef(o[0], i[0], i[1], c[0]) },
		},
		{
			"rmsGrad", 1, 3, 2,
			func(o, i [][]float32, c []float32) { rmsGradVec(o[0], i[0], i[1], i[2], c[0], c[1]) },
			func(o, i [][]float32, c []float32) { rmsGradRef(o[0], i[0], i[1], i[2], c[0], c[1]) },
		},
		{
			"rmsGradOnes", 1, 2, 2,
			func(o, i [][]float32, c []float32) { rmsGradOnesVec(o[0], i[0], i[1], c[0], c[1]) },
			func(o, i [][]float32, c []float32) { rmsGradOnesRef(o[0], i[0], i[1], c[0], c[1]) },
		},
		{
			"adamW", 3, 4, 8,
			func(o, i [][]float32, c []float32) {
				AdamW(o[0], o[1], o[2], i[0], i[1], i[2], i[3], c[0], c[1], c[2], c[3], c[4], c[5], c[6])
			},
			func(o, i [][]float32, c []float32) {
				adamWRef(o[0], o[1], o[2], i[0], i[1], i[2], i[3], c[0], c[1], 1-c[1], c[2], 1-c[2], c[3], c[4], c[5], c[6])
			},
		},
	}
}

func TestElementwiseEqualsItsReferenceLoopWhereverItLies(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(1, 2))
	for _, f := range routines() {
		t.Run(f.name, func(t *testing.T) {
			for n := range 66 {
				for trial := range 4 {
					checkRoutine(t, f, r, n, trial)
				}
			}
		})
	}
}

// checkRoutine compares the two in separate memory, and then again with each output in the memory of an input.
func checkRoutine(t *testing.T, f routine, r *rand.Rand, n, trial int) {
	t.Helper()
	in, out, want := make([]fenced, f.in), make([]fenced, f.out), make([][]float32, f.out)
	c := make([]float32, f.param)
	fill(r, c, trial == 3)
	var gotIn, gotOut [][]float32
	for j := range in {
		in[j] = newFenced(n, (trial+j)%5)
		fill(r, in[j].x, trial > 0)
		gotIn = append(gotIn, in[j].x)
	}
	for j := range out {
		out[j] = newFenced(n, (trial+3*j+1)%5)
		want[j] = make([]float32, n)
		gotOut = append(gotOut, out[j].x)
	}
	f.want(want, gotIn, c)
	f.got(gotOut, gotIn, c)
	compare(t, f.name, gotOut, want)
	for _, g := range append(in, out...) {
		g.check(t, f.name)
	}
	f.got(gotIn[:f.out], gotIn, c)
	compare(t, f.name+" in place", gotIn[:f.out], want)
}

func compare(t *testing.T, name string, got, want [][]float32) {
	t.Helper()
	for j := range got {
		for i := range got[j] {
			if !same(got[j][i], want[j][i]) {
				t.Fatalf("%s: output %d, element %d of %d is %x, want %x", name, j, i, len(got[j]), got[j][i], want[j][i])
			}
		}
	}
}

func TestAccumulatingRoutinesEqualTheirReferenceLoops(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 66 {
		d, x, y := newFenced(n, n%3), make([]float32, n), make([]float32, n)
		fill(r, d.x, true)
		fill(r, x, true)
		fill(r, y, true)
		want := append([]float32(nil), d.x...)
		axpyRef(want, x, 1.7)
		Axpy(d.x, x, 1.7)
		compare(t, "axpy", [][]float32{d.x}, [][]float32{want})
		gainGradRef(want, x, y, -0.3)
		RMSNormGainGradRow(d.x, x, y, -0.3)
		compare(t, "gain gradient", [][]float32{d.x}, [][]float32{want})
		d.check(t, "axpy")
	}
}

func TestReductionsEqualTheirReferenceOrder(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(5, 6))
	for n := range 140 {
		for trial := range 3 {
			x, y, z := newFenced(n, trial), make([]float32, n), make([]float32, n)
			fill(r, x.x, trial == 2 && n%3 == 0)
			fill(r, y, false)
			fill(r, z, false)
			for _, c := range []struct {
				name      string
				got, want float32
			}{
				{"sum", Sum(x.x), sumRef(x.x)},
				{"sum of squares", SumSquares(x.x), sumSquaresRef(x.x)},
				{"dot", Dot(x.x, y), dotRef(x.x, y)},
				{"dot3", dot3Vec(x.x, y, z), dot3Ref(x.x, y, z)},
				{"sum of exp", sumExpVec(x.x, 0.25), sumExpRef(x.x, 0.25)},
				{"max", MaxValue(x.x), maxValueRef(x.x)},
				{"absmax", AbsMax(x.x), absMaxRef(x.x)},
			} {
				if !same(c.got, c.want) {
					t.Fatalf("%s of %d elements is %x, want %x", c.name, n, c.got, c.want)
				}
			}
		}
	}
}

func TestLargestOfZerosIsPositiveWhereverItIs(t *testing.T) {
	needVectors(t)
	for n := 1; n < 70; n++ {
		for at := range n {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(math.Copysign(0, -1))
			}
			if got := MaxValue(x); math.Float32bits(got) != 1<<31 {
				t.Fatalf("largest of %d negative zeros is %x", n, got)
			}
			x[at] = 0
			if got := MaxValue(x); math.Float32bits(got) != 0 {
				t.Fatalf("largest of %d zeros, the positive one at %d, is %x", n, at, got)
			}
		}
	}
}

func TestSumsAreNearTheFloat64Sums(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(7, 8))
	for _, n := range []int{1, 31, 768, 50257} {
		x, y := make([]float32, n), make([]float32, n)
		fill(r, x, false)
		fill(r, y, false)
		var sum, squares, dot, abs float64
		for i, v := range x {
			sum += float64(v)
			abs += math.Abs(float64(v))
			squares += float64(v) * float64(v)
			dot += float64(v) * float64(y[i])
		}
		within(t, "sum", Sum(x), sum, 3e-6*abs)
		within(t, "squares", SumSquares(x), squares, 1e-5*squares)
		within(t, "dot", Dot(x, y), dot, 1e-5*squares)
	}
}

func within(t *testing.T, what string, got float32, want, tol float64) {
	t.Helper()
	if d := math.Abs(float64(got) - want); !(d <= tol) {
		t.Errorf("%s: got %g, want %g (off by %.3g, allowed %.3g)", what, got, want, d, tol)
	}
}

// worst returns the largest relative error of f against want over a sweep of float32 bit patterns.
func worst(from, to, stride uint32, f func(dst, x []float32), want func(float64) float64) (err float64, at float32) {
	const batch = 4096
	x, y := make([]float32, 0, batch), make([]float32, batch)
	flush := func() {
		f(y[:len(x)], x)
		for i, v := range x {
			w := want(float64(v))
			if math.Abs(w) < 0x1p-126 || math.Abs(w) > math.MaxFloat32 {
				continue
			}
			if e := math.Abs(float64(y[i])-w) / math.Abs(w); !(e <= err) {
				err, at = e, v
			}
		}
		x = x[:0]
	}
	for b := from; b < to; b += stride {
		if x = append(x, math.Float32frombits(b)); len(x) == batch {
			flush()
		}
	}
	flush()
	return err, at
}

func TestTranscendentalsAreAccurate(t *testing.T) {
	needVectors(t)
	bits := math.Float32bits
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	for _, c := range []struct {
		name     string
		from, to uint32
		f        func(dst, x []float32)
		want     func(float64) float64
		limit    float64
	}{
		{"exp above 0", 0, bits(88.8), Exp, math.Exp, 1e-7},
		{"exp below 0", 1 << 31, bits(-87.4), Exp, math.Exp, 1e-7},
		{"sigmoid above 0", 0, bits(100), Sigmoid, sigmoid, 2e-7},
		{"sigmoid below 0", 1 << 31, bits(-86), Sigmoid, sigmoid, 3e-7},
		{"log", 1, bits(math.MaxFloat32), Log, math.Log, 1e-7},
	} {
		err, at := worst(c.from, c.to, 997, c.f, c.want)
		t.Logf("%s: largest relative error %.3g, at %g", c.name, err, at)
		if !(err <= c.limit) {
			t.Errorf("%s: relative error %.3g at %g, want at most %.3g", c.name, err, at, c.limit)
		}
	}
}

func TestTranscendentalsAtTheEdges(t *testing.T) {
	needVectors(t)
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		name    string
		f       func(dst, x []float32)
		x, want float32
	}{
		{"exp(0)", Exp, 0, 1},
		{"exp(-Inf)", Exp, -inf, 0},
		{"exp(Inf)", Exp, inf, inf},
		{"exp(89)", Exp, 89, inf},
		{"exp(1e30)", Exp, 1e30, inf},
		{"exp(-104)", Exp, -104, 0},
		{"exp(-1e30)", Exp, -1e30, 0},
		{"exp(NaN)", Exp, nan, nan},
		{"exp(-103)", Exp, -103, 0x1p-149},
		{"exp(88.72)", Exp, 88.72283, float32(math.Exp(float64(float32(88.72283))))},
		{"log(0)", Log, 0, -inf},
		{"log(1)", Log, 1, 0},
		{"log(-1)", Log, -1, nan},
		{"log(Inf)", Log, inf, inf},
		{"log(-Inf)", Log, -inf, nan},
		{"sigmoid(0)", Sigmoid, 0, 0.5},
		{"sigmoid(-Inf)", Sigmoid, -inf, 0},
		{"sigmoid(Inf)", Sigmoid, inf, 1},
	} {
		var got [1]float32
		c.f(got[:], []float32{c.x})
		if w := float64(c.want); !same(got[0], c.want) && !(math.Abs(float64(got[0])-w) <= 2e-7*math.Abs(w)) {
			t.Errorf("%s is %g, want %g", c.name, got[0], c.want)
		}
	}
}
