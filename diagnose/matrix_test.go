package diagnose

import (
	"math"
	"slices"
	"testing"
)

func near(t *testing.T, what string, got, want, bound float64) {
	t.Helper()
	if !(math.Abs(got-want) <= bound*max(1, math.Abs(want))) {
		t.Errorf("%s is %.12g, want %.12g", what, got, want)
	}
}

func TestAMatrixIsMeasuredByHand(t *testing.T) {
	// Singular values of [[3,0],[4,5]] are 3 sqrt 5 and sqrt 5 (A^T A has
	// trace 50 and determinant 225).
	m := path{{3, 0, 4, 5}}.measure(2, true)
	for _, c := range []struct {
		what string
		r    Range
		want float64
	}{
		{"largest row sum", m.RowMax, 9},
		{"smallest row sum", m.RowMin, 3},
		{"largest column sum", m.ColMax, 7},
		{"smallest column sum", m.ColMin, 5},
		{"smallest element", m.Smallest, 0},
		{"error", m.Error, 8},
		{"spectral norm", m.Spectral, 3 * math.Sqrt(5)},
		{"gain", m.Gain, 9},
	} {
		near(t, c.what, c.r.Mean, c.want, 1e-14)
		if c.r.Min != c.r.Mean || c.r.Max != c.r.Mean {
			t.Errorf("%s of one matrix ranges: %+v", c.what, c.r)
		}
	}
	if m.Violations != 1 || !slices.Equal(m.Values[1], []float64{4, 5}) {
		t.Errorf("%d violations, values %v", m.Violations, m.Values)
	}
}

func TestNegativeElementsViolate(t *testing.T) {
	// Rows and columns sum to 1.
	m := path{{1.5, -0.5, -0.5, 1.5}}.measure(2, false)
	if m.Violations != 1 || m.Error.Mean != 0.5 || m.Smallest.Mean != -0.5 || m.Gain.Mean != 2 || m.RowMax.Mean != 1 || m.Values != nil {
		t.Errorf("%+v", m)
	}
	near(t, "spectral norm", m.Spectral.Mean, 2, 1e-14)          // eigenvalues 1 and 2
	for _, h := range []path{{{1, -1, 0, 0}}, {{1, 0, -1, 0}}} { // a row, a column
		if g := h.measure(2, false).Gain.Mean; g != 2 {
			t.Errorf("gain of %v is %v", h, g)
		}
	}
}

func TestTheErrorOfAnExactMatrixIsThatOfItsFloats(t *testing.T) {
	a := float64(float32(0.3))
	b := float64(1 - float32(0.3)) // as a graph computes it
	m := path{{a, b, b, a}}.measure(2, false)
	if want := math.Abs(a + b - 1); m.Error.Mean != want || want > 6e-8 {
		t.Errorf("error %g, want %g", m.Error.Mean, want)
	}
	m = path{{0.25, 0.75, 0.75, 0.25 + 2e-7}}.measure(2, false)
	near(t, "error", m.Error.Mean*1e7, 2, 1e-6)
	if m.Violations != 0 {
		t.Error("an error of 2e-7 violates")
	}
}

func TestNumbersRangeOverTokens(t *testing.T) {
	m := path{{1, 0, 0, 1}, {0, 3, 1, 0}}.measure(2, true)
	if want := (Range{Mean: 2, Min: 1, Max: 3}); m.RowMax != want || m.Spectral != want || m.Gain != want {
		t.Errorf("row max %+v, spectral %+v, gain %+v, want %+v", m.RowMax, m.Spectral, m.Gain, want)
	}
	if m.Violations != 1 || !slices.Equal(m.Values[0], []float64{0.5, 1.5}) {
		t.Errorf("%d violations, mean %v", m.Violations, m.Values)
	}
}

func TestAProductFollowsTheOrderOfLayersAndTheToken(t *testing.T) {
	var p path
	p = p.then(path{{1, 1, 0, 1}}, 2)
	p = p.then(path{{1, 0, 1, 1}, {0, 1, 1, 0}}, 2)
	// [1 0; 1 1] [1 1; 0 1] and [0 1; 1 0] [1 1; 0 1]
	if len(p) != 2 || !slices.Equal(p[0], []float64{1, 1, 1, 2}) || !slices.Equal(p[1], []float64{0, 1, 1, 1}) {
		t.Errorf("products %v", p)
	}
	p = p.then(path{{2, 0, 0, 1}}, 2)
	if !slices.Equal(p[0], []float64{2, 2, 1, 2}) || !slices.Equal(p[1], []float64{0, 2, 1, 1}) {
		t.Errorf("products %v", p)
	}
}

func TestWhatIsNoNumberIsNotFinite(t *testing.T) {
	for _, x := range []float64{math.NaN(), math.Inf(1)} {
		m := path{{1, x, 0, 1}}.measure(2, false)
		if (Report{Mixing: []Matrix{m}}).Finite() || m.Violations != 1 {
			t.Errorf("a matrix with %v: %+v", x, m)
		}
		for _, r := range []Report{
			{CompositeGain: x},
			{RMS: []float64{1, x}},
			{Divergence: []float64{x}},
			{GradientRMS: []float64{x}},
			{Cosine: []Range{{Max: x}}},
			{Composite: []Matrix{{Spectral: Range{Mean: x}}}},
		} {
			if r.Finite() {
				t.Errorf("%+v is finite", r)
			}
		}
	}
	if m := (path{{1, 0, 0, 1}}).measure(2, false); !(Report{RMS: []float64{1}, Mixing: []Matrix{m}}).Finite() {
		t.Error("the identity is not finite")
	}
}

func TestDivergenceOfNothing(t *testing.T) {
	if divergence(0, 0) != 0 || divergence(1, 0) != math.MaxFloat64 || divergence(4, 1) != 2 {
		t.Errorf("%v %v %v", divergence(0, 0), divergence(1, 0), divergence(4, 1))
	}
}

func TestSamplesAreSpread(t *testing.T) {
	if got := spread(4, 16); !slices.Equal(got, []int32{2, 6, 10, 14}) {
		t.Error(got)
	}
	if got := spread(3, 3); !slices.Equal(got, []int32{0, 1, 2}) {
		t.Error(got)
	}
}
