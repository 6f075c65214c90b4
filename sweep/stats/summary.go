package stats

import (
	"math"
	"slices"

	"github.com/cockroachdb/errors"
)

// ErrEmpty is returned where there is nothing to summarize.
var ErrEmpty = errors.New("no values")

// ErrNonFinite is returned for values that are no finite numbers: a mean over
// such would hide which of them it was.
var ErrNonFinite = errors.New("not a finite number")

// Summary describes a sample in the sample's unit.
type Summary struct {
	N      int     `json:"n"`
	Mean   float64 `json:"mean"`
	SD     float64 `json:"sd"` // with n-1 in the denominator; 0 for a single value, which has none
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Summarize describes x. It returns ErrEmpty or ErrNonFinite.
func Summarize(x []float64) (Summary, error) {
	if err := check(x); err != nil {
		return Summary{}, err
	}
	s := slices.Sorted(slices.Values(x))
	n := len(s)
	mean, sd := meanSD(x)
	if s[0] == s[n-1] { // of which rounding would make a small deviation
		mean, sd = s[0], 0
	}
	return Summary{N: n, Mean: mean, SD: sd, Median: s[(n-1)/2]/2 + s[n/2]/2, Min: s[0], Max: s[n-1]}, nil
}

func check(x []float64) error {
	if len(x) == 0 {
		return ErrEmpty
	}
	for i, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return errors.Wrapf(ErrNonFinite, "value %d of %d is %v", i+1, len(x), v)
		}
	}
	return nil
}

// meanSD takes the mean first and the deviations from it in a second pass:
// losses differ in their third digit, and a sum of squares would lose it.
func meanSD(x []float64) (mean, sd float64) {
	n := float64(len(x))
	for _, v := range x {
		mean += v / n
	}
	if len(x) < 2 {
		return mean, 0
	}
	var sum, rest float64
	for _, v := range x {
		sum += (v - mean) * (v - mean)
		rest += v - mean
	}
	return mean, math.Sqrt(max(0, sum-rest*rest/n) / (n - 1)) // rest: what rounding left of the mean
}
