package main

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/errors"
	"gonum.org/v1/gonum/stat"
)

// figure sums up what the rounds of one measurement gave.
type figure struct {
	Median float64 `json:"median"` // the lower of the middle two where there are two
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Rounds int     `json:"rounds"`
}

// summarize leaves out the rounds that were missed; none at all is the zero
// figure.
func summarize(rounds []float64) figure {
	var v []float64
	for _, x := range rounds {
		if !math.IsNaN(x) {
			v = append(v, x)
		}
	}
	if len(v) == 0 {
		return figure{}
	}
	slices.Sort(v)
	return figure{Median: stat.Quantile(0.5, stat.Empirical, v, nil), Min: v[0], Max: v[len(v)-1], Rounds: len(v)}
}

// ratios divides round by round, so that both sides met the machine in the
// same state. A round that either side missed is missed.
func ratios(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range r {
		r[i] = a[i] / b[i]
	}
	return r
}

// contender is one thing that the rounds measure.
type contender struct {
	name string
	most int // rounds that it takes part in; 0 is all
	rate func(ctx context.Context) (float64, error)
}

// inRounds measures every contender once a round, in turn, every other round
// backwards, and returns the rates by contender and round, NaN for a round
// that was missed.
func inRounds(ctx context.Context, all []contender, rounds int, done func()) ([][]float64, error) {
	rates := make([][]float64, len(all))
	for i := range rates {
		rates[i] = slices.Repeat([]float64{math.NaN()}, rounds)
	}
	for r := range rounds {
		for k := range all {
			i := k
			if r%2 == 1 {
				i = len(all) - 1 - k
			}
			if all[i].most > 0 && r >= all[i].most {
				continue
			}
			if err := ctx.Err(); err != nil {
				return nil, errors.Wrap(err, all[i].name)
			}
			rate, err := all[i].rate(ctx)
			if err != nil {
				return nil, errors.Wrap(err, all[i].name)
			}
			rates[i][r] = rate
		}
		done()
	}
	return rates, nil
}

// subject is something to measure. Run does it once and returns how many units
// that was.
type subject interface {
	Run(ctx context.Context) (units float64, err error)
	Close() error
}

// rateOf repeats s for a while and returns units a second.
func rateOf(ctx context.Context, s subject, least time.Duration) (float64, error) {
	var units float64
	begin := time.Now()
	for {
		n, err := s.Run(ctx)
		if err != nil {
			return 0, err
		}
		units += n
		if spent := time.Since(begin); spent >= least {
			return units / spent.Seconds(), nil
		}
	}
}
