package stats

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cockroachdb/errors"
)

// reference is what testdata/reference.py wrote.
type reference struct {
	Paired []struct {
		Differences                       []float64
		Mean, SD, Median, T, P, Low, High float64
		SignFlip                          float64 `json:"sign_flip"`
	}
	Holm []struct{ P, Holm []float64 }
}

func readReference(t *testing.T) (r reference) {
	t.Helper()
	data, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*max(1e-300, math.Abs(want))) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestPairedAgreesWithSciPy(t *testing.T) {
	for _, c := range readReference(t).Paired {
		p, err := Compare(c.Differences)
		if err != nil || p.T == nil {
			t.Fatal(err, p.T)
		}
		near(t, "mean", p.Mean, c.Mean, 1e-12)
		near(t, "sd", p.SD, c.SD, 1e-12)
		near(t, "median", p.Median, c.Median, 1e-12)
		near(t, "t", p.T.Statistic, c.T, 1e-11)
		near(t, "p", p.T.P, c.P, 1e-9)
		near(t, "low", p.T.Low, c.Low, 1e-8)
		near(t, "high", p.T.High, c.High, 1e-8)
		near(t, "sign flip", p.SignFlip.P, c.SignFlip, 1e-12)
	}
}

func TestHolmAgreesWithStatsmodels(t *testing.T) {
	for _, c := range readReference(t).Holm {
		got, err := Holm(c.P)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			near(t, "corrected p", got[i], c.Holm[i], 1e-12)
		}
	}
}

// bruteForce flips by the bits of a counter, on differences in quarters, whose
// sums have no rounding.
func bruteForce(quarters []int) float64 {
	abs := func(x int) int { return max(x, -x) }
	var sum, n int
	for _, v := range quarters {
		sum += v
	}
	for mask := range 1 << len(quarters) {
		var s int
		for i, v := range quarters {
			if mask>>i&1 == 1 {
				v = -v
			}
			s += v
		}
		if abs(s) >= abs(sum) {
			n++
		}
	}
	return float64(n) / float64(int(1)<<len(quarters))
}

func TestSignFlipCountsTiesAndZerosAsBruteForceDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := 1; n <= 14; n++ {
		for range 6 {
			q, d := make([]int, n), make([]float64, n)
			for i := range q {
				q[i] = r.IntN(9) - 4
				d[i] = float64(q[i]) / 10 // tenths: sums are rounded, ties must stay ties
			}
			got, err := SignFlipTest(d)
			if want := bruteForce(q); err != nil || got.P != want || got.Error != 0 {
				t.Errorf("%v: %+v %v, want %v", d, got, err, want)
			}
		}
	}
}

func TestSignFlipOfOneSignIsTheLeastThatThePairsAllow(t *testing.T) {
	for n, want := range map[int]float64{1: 1, 2: 0.5, 3: 0.25, 5: 0.0625, 6: 0.03125, 20: math.Ldexp(1, -19)} {
		d := make([]float64, n)
		for i := range d {
			d[i] = 0.01 * float64(i+1)
		}
		if got, err := SignFlipTest(d); err != nil || got.P != want || got.Least != want {
			t.Errorf("%d pairs: %+v %v, want %v", n, got, err, want)
		}
	}
	for m, want := range map[int]int{0: 6, 1: 6, 2: 7, 3: 7, 5: 8, 10: 9} {
		if got := PairsFor(0.05, m); got != want {
			t.Errorf("%d comparisons: %d pairs, want %d", m, got, want)
		}
	}
}

// A sample of more than MaxExact pairs whose exact p is known: n equal
// differences, k of them negative, are a binomial sign test.
func TestSignFlipOfManyPairsIsNearTheBinomialLaw(t *testing.T) {
	const n, k = 30, 9
	d := make([]float64, n)
	for i := range d {
		d[i] = 1
		if i < k {
			d[i] = -1
		}
	}
	var want float64 // 2 P(X <= k), X binomial of n and 1/2
	for i := range k + 1 {
		lg := func(x int) float64 { v, _ := math.Lgamma(float64(x + 1)); return v }
		want += 2 * math.Exp(lg(n)-lg(i)-lg(n-i)-n*math.Ln2)
	}
	a, err := SignFlipTest(d)
	if err != nil || a.Error == 0 || math.Abs(a.P-want) > 4*a.Error {
		t.Errorf("%+v %v, want %v", a, err, want)
	}
	if b, _ := SignFlipTest(d); a != b {
		t.Errorf("the second time %+v, the first %+v", b, a)
	}
}

func TestFewPairsHaveNoInterval(t *testing.T) {
	one, err := Compare([]float64{0.5})
	if err != nil || one.T != nil || one.SignFlip.P != 1 || one.SD != 0 {
		t.Errorf("%+v %v", one, err)
	}
	for _, d := range [][]float64{{0, 0, 0}, {0.1, 0.1, 0.1}, {2.1 - 2, 3.1 - 3, 0.1}} {
		if p, err := Compare(d); err != nil || p.T != nil {
			t.Errorf("%v do not vary: %+v %v", d, p.T, err)
		}
	}
}

func TestNumbersThatAreNoneAreRefused(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := Compare([]float64{1, v}); !errors.Is(err, ErrNonFinite) {
			t.Errorf("%v: %v", v, err)
		}
		if _, err := SignFlipTest([]float64{v}); !errors.Is(err, ErrNonFinite) {
			t.Errorf("%v: %v", v, err)
		}
		if _, err := Holm([]float64{0.5, v}); !errors.Is(err, ErrProbability) {
			t.Errorf("%v: %v", v, err)
		}
	}
	if _, err := Summarize(nil); !errors.Is(err, ErrEmpty) {
		t.Error(err)
	}
	for _, p := range []float64{-0.1, 1.1} {
		if _, err := Holm([]float64{p}); !errors.Is(err, ErrProbability) {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func TestHolmNeedsNoOrderAndKeepsIt(t *testing.T) {
	got, err := Holm([]float64{0.04, 0.01, 0.03}) // by hand: 3*0.01, 2*0.03, then no less
	if err != nil || math.Abs(got[1]-0.03) > 1e-15 || math.Abs(got[2]-0.06) > 1e-15 || got[0] != got[2] {
		t.Error(got, err)
	}
	if got, err := Holm(nil); err != nil || len(got) != 0 {
		t.Error(got, err)
	}
}
