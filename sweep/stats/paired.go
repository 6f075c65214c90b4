package stats

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Level is the confidence of the intervals, and 1 - Level the rate of false
// findings that the reports allow.
const Level = 0.95

// Paired describes the differences of pairs.
type Paired struct {
	Summary
	// T is Student's test of a mean of zero. It is nil for fewer than two pairs,
	// and where the differences do not vary: then the statistic is no number.
	T *T `json:"t,omitempty"`
	// SignFlip is the test of differences that are symmetric around zero.
	SignFlip SignFlip `json:"sign_flip"`
}

// T is Student's one-sample test (Student 1908) of differences that are
// independent and normal.
type T struct {
	Statistic float64 `json:"statistic"`
	Freedom   int     `json:"degrees_of_freedom"`
	P         float64 `json:"p"` // two-sided
	Low       float64 `json:"low"`
	High      float64 `json:"high"` // Low to High: the interval of confidence Level for the mean
}

// Compare describes the differences d of pairs. It returns ErrEmpty or
// ErrNonFinite.
func Compare(d []float64) (Paired, error) {
	s, err := Summarize(d)
	if err != nil {
		return Paired{}, err
	}
	p := Paired{Summary: s, T: student(s)}
	p.SignFlip, err = SignFlipTest(d)
	return p, err
}

// negligible is a deviation, as a share of the differences, that is rounding:
// a t of such would find anything.
const negligible = 1e-9

func student(s Summary) *T {
	if s.N < 2 || s.SD <= negligible*max(math.Abs(s.Min), math.Abs(s.Max)) {
		return nil
	}
	se := s.SD / math.Sqrt(float64(s.N))
	dist := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(s.N - 1)}
	t := s.Mean / se
	half := dist.Quantile(1-(1-Level)/2) * se
	return &T{Statistic: t, Freedom: s.N - 1, P: min(1, 2*dist.CDF(-math.Abs(t))), Low: s.Mean - half, High: s.Mean + half}
}
