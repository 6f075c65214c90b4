package stats

import (
	"cmp"
	"slices"

	"github.com/cockroachdb/errors"
)

// ErrProbability is returned for a p that is none.
var ErrProbability = errors.New("not a probability")

// Holm corrects p for their number with Holm's step-down procedure (Holm
// 1979): the probability of any false finding among those with a corrected p
// of at most alpha is at most alpha, however the tests depend on each other.
// It returns the corrected p in the order of p, or ErrProbability.
func Holm(p []float64) ([]float64, error) {
	order := make([]int, len(p))
	for i, v := range p {
		if !(v >= 0 && v <= 1) {
			return nil, errors.Wrapf(ErrProbability, "p %d of %d is %v", i+1, len(p), v)
		}
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	out := make([]float64, len(p))
	var least float64 // corrected p never fall as p rise
	for rank, i := range order {
		least = max(least, min(1, float64(len(p)-rank)*p[i]))
		out[i] = least
	}
	return out, nil
}
