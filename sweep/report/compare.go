package report

import (
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/stats"
)

// Alpha is the rate of false findings that the words of a report allow, over
// all of its comparisons together.
const Alpha = 1 - stats.Level

// Comparison is of a cell with its baseline cell: differences of the metric,
// cell minus baseline, of the trials with the same seed.
type Comparison struct {
	With string `json:"with"` // a cell; "" where the plan has none with the baseline's values
	// Seeds that one of the two cells has planned and that are no pair, since they
	// are not done here or there.
	NotDone         []uint64      `json:"seeds_not_done,omitempty"`
	NotDoneBaseline []uint64      `json:"seeds_not_done_in_baseline,omitempty"`
	Paired          *stats.Paired `json:"paired,omitempty"` // nil without a pair
	// Holm is the p of the t test, corrected for all comparisons of the report;
	// HolmSignFlip that of the sign-flip test. Nil for fewer than two pairs: these
	// test nothing, and are none of the comparisons that are corrected for.
	//
	// The verdict follows Holm. An ablation has three to five seeds, with which the
	// exact test cannot go below 0.25 to 0.0625 however large a difference is: to
	// correct its p would make each report say that nothing differs. The price of
	// the t test is its assumption that differences are normal, so the exact p
	// stands beside it, and the words say whether it agrees and whether it could.
	Holm         *float64 `json:"holm_p,omitempty"`
	HolmSignFlip *float64 `json:"holm_sign_flip_p,omitempty"`
	Verdict      Verdict  `json:"verdict"`
}

// Verdict is a comparison in a word.
type Verdict string

// Verdicts.
const (
	Lower    Verdict = "lower"       // than the baseline; better, as losses are
	Higher   Verdict = "higher"      // than the baseline; worse
	Unclear  Verdict = "not clear"   // not distinguishable from the baseline
	TooSmall Verdict = "n too small" // fewer than two pairs
)

// compare fills in the comparisons of all cells that are no baseline.
func compare(cells []*Cell, b *baseline, m Metric) error {
	byName := make(map[string]*Cell, len(cells))
	for _, c := range cells {
		byName[c.Name] = c
	}
	var tested []*Comparison
	for _, c := range cells {
		name, ok := b.of(c)
		if c.isBaseline = ok && name == c.Name; c.isBaseline {
			continue
		}
		c.Comparison = &Comparison{Verdict: TooSmall}
		if !ok {
			continue
		}
		if err := c.Comparison.pair(c, byName[name], m); err != nil {
			return errors.Wrapf(err, "compare %q with %q", c.Name, name)
		}
		if p := c.Comparison.Paired; p != nil && p.N >= 2 {
			tested = append(tested, c.Comparison)
		}
	}
	return correct(tested)
}

// pair fills in the differences by seed.
func (c *Comparison) pair(cell, base *Cell, m Metric) error {
	c.With = base.Name
	results := func(c *Cell) map[uint64]*sweep.Result {
		all := map[uint64]*sweep.Result{}
		for _, t := range c.trials {
			all[t.Seed] = nil
			if t.State == sweep.Done {
				all[t.Seed] = t.Result
			}
		}
		return all
	}
	here, there := results(cell), results(base)
	var seeds []uint64
	for s := range here {
		seeds = append(seeds, s)
	}
	for s := range there {
		if _, both := here[s]; !both {
			seeds = append(seeds, s)
		}
	}
	slices.Sort(seeds)
	var d []float64
	for _, s := range seeds {
		x, y := here[s], there[s]
		if x == nil {
			c.NotDone = append(c.NotDone, s)
		}
		if y == nil {
			c.NotDoneBaseline = append(c.NotDoneBaseline, s)
		}
		if x != nil && y != nil {
			d = append(d, m.of(x)-m.of(y))
		}
	}
	if len(d) == 0 {
		return nil
	}
	p, err := stats.Compare(d)
	c.Paired = &p
	return err
}

// p is that of the t test. Where the differences do not vary there is no t,
// and the exact test stands in.
func (c *Comparison) p() float64 {
	if c.Paired.T == nil {
		return c.Paired.SignFlip.P
	}
	return c.Paired.T.P
}

// correct applies Holm's correction and decides.
func correct(tested []*Comparison) error {
	t, flip := make([]float64, len(tested)), make([]float64, len(tested))
	for i, c := range tested {
		t[i], flip[i] = c.p(), c.Paired.SignFlip.P
	}
	t, err1 := stats.Holm(t)
	flip, err2 := stats.Holm(flip)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for i, c := range tested {
		c.Holm, c.HolmSignFlip = &t[i], &flip[i]
		switch {
		case t[i] > Alpha:
			c.Verdict = Unclear
		case c.Paired.Mean < 0:
			c.Verdict = Lower
		default:
			c.Verdict = Higher
		}
	}
	return nil
}
