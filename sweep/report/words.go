package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/stats"
)

// named is how many cells a sentence names.
const named = 8

// maxName is how long a cell's name is in a sentence.
const maxName = 120

// words says what the comparisons show, in sentences.
func (r *Report) words() []string {
	var tested, small []*Cell
	for _, c := range r.Cells {
		switch {
		case c.Comparison == nil:
		case c.Comparison.Holm == nil:
			small = append(small, c)
		default:
			tested = append(tested, c)
		}
	}
	var out []string
	switch {
	case len(r.Cells) == 1:
		out = append(out, "The plan has one cell: there is nothing to compare it with.")
	case len(tested) == 0:
		out = append(out, "No comparison has the two pairs that an interval takes: nothing can be said of differences yet.")
	default:
		out = append(out, r.findings(tested)...)
		out = append(out, seeds(tested)...)
	}
	if len(small) > 0 && len(r.Cells) > 1 && len(tested) > 0 {
		out = append(out, fmt.Sprintf("n too small, fewer than two pairs, and so not tested: %s.", someOf(names(small), named)))
	}
	return append(out, r.completeness()...)
}

func names(cells []*Cell) []string {
	list := make([]string, len(cells))
	for i, c := range cells {
		list[i] = c.label()
	}
	return list
}

// label names a cell; the only one of a plan without axes has no name.
func (c *Cell) label() string {
	if s := oneLine(c.Name, maxName); s != "" {
		return s
	}
	return "(all)"
}

// findings lists what Holm's correction leaves, and what not.
func (r *Report) findings(tested []*Cell) []string {
	var found, exact, unclear []string
	for _, c := range tested {
		cmp := c.Comparison
		if cmp.Verdict == Unclear {
			unclear = append(unclear, c.label())
			continue
		}
		s := fmt.Sprintf("%s is %s by %s", c.label(), cmp.Verdict, strings.TrimLeft(formatDifference(cmp.Paired.Mean), "+-"))
		if t := cmp.Paired.T; t != nil {
			s += fmt.Sprintf(" (95 %% interval %s to %s, corrected p %s)", formatDifference(t.Low), formatDifference(t.High), formatP(*cmp.Holm))
		}
		found = append(found, s)
		if *cmp.HolmSignFlip <= Alpha {
			exact = append(exact, c.label())
		}
	}
	out := []string{fmt.Sprintf("Of %s compared with the baseline in %s, %d can be told from it after Holm's correction (paired t test, at most 5 %% false findings over all of them together)%s.",
		plural(len(tested), "cell", "cells"), r.Metric.title(), len(found), listed(found))}
	if len(unclear) > 0 {
		out = append(out, fmt.Sprintf("Not to be told from the baseline with these seeds: %s. That does not make them equal: the intervals say how large a difference remains possible.",
			someOf(unclear, named)))
	}
	switch {
	case len(found) > 0 && len(exact) == len(found):
		out = append(out, "The exact sign-flip test, which assumes no normal law, agrees after its own correction.")
	case len(exact) > 0:
		out = append(out, fmt.Sprintf("The exact sign-flip test, which assumes no normal law, agrees after its own correction for %s, and does not for the others.", someOf(exact, named)))
	case len(found) > 0:
		out = append(out, "The exact sign-flip test, which assumes no normal law, does not bear this out after its own correction: the findings rest on differences that are about normal.")
	}
	return out
}

func listed(found []string) string {
	if len(found) == 0 {
		return ""
	}
	return ": " + strings.ReplaceAll(someOf(found, named), "), ", "); ")
}

// seeds says what the number of pairs allows.
func seeds(tested []*Cell) []string {
	few, many, sampled := tested[0].Comparison.Paired.N, 0, 0
	for _, c := range tested {
		n := c.Comparison.Paired.N
		few, many = min(few, n), max(many, n)
		if n > stats.MaxExact {
			sampled++
		}
	}
	var out []string
	need := stats.PairsFor(Alpha, len(tested))
	if few < need {
		s := fmt.Sprintf("n too small for the exact test: with %s its p cannot be below %s", plural(few, "pair", "pairs"), formatLeast(few))
		if many > few {
			s += fmt.Sprintf(" (with %d, the most that a comparison here has, %s)", many, formatLeast(many))
		}
		s += fmt.Sprintf("; it can reach 0.05 with %d pairs", stats.PairsFor(Alpha, 1))
		if len(tested) > 1 {
			s += fmt.Sprintf(", with %d after the correction for %d comparisons", need, len(tested))
		}
		out = append(out, s+".")
	}
	if few == 2 {
		out = append(out, "An interval from two pairs reaches 12.7 standard errors to each side: take more seeds.")
	}
	if sampled > 0 {
		out = append(out, fmt.Sprintf("With more than %d pairs, sign flips were drawn (100,000, fixed seed) and not all counted, in %s: those p have a standard error, in report.json.",
			stats.MaxExact, plural(sampled, "comparison", "comparisons")))
	}
	return out
}

func formatLeast(n int) string {
	if p := stats.Least(n); p < 0.05 {
		return formatP(p)
	}
	return strconv.FormatFloat(stats.Least(n), 'g', -1, 64)
}

// completeness says which trials are not there.
func (r *Report) completeness() []string {
	c := r.Counts
	switch {
	case c.Done == c.Planned:
		return []string{fmt.Sprintf("All %s are done.", plural(c.Planned, "trial", "trials"))}
	case c.Done == 0:
		return []string{fmt.Sprintf("None of %s is done (%d failed, %d missing): there are no numbers yet.", plural(c.Planned, "trial", "trials"), c.Failed, c.Missing)}
	}
	s := fmt.Sprintf("%d of %s are done, %d failed, %d are missing; they are listed below.", c.Done, plural(c.Planned, "trial", "trials"), c.Failed, c.Missing)
	if c.Failed > 0 {
		s += " Means are over the trials that are done: a cell whose bad seeds fail looks better than it is."
	}
	return []string{s}
}

// warnings tells what makes numbers hard to compare.
func (r *Report) warnings() []string {
	var out []string
	tokens := map[int]bool{}
	var problems []string
	for _, t := range r.trials {
		if t.State == sweep.Done {
			tokens[t.Result.ValidTokens] = true
		}
		if t.Problem != "" {
			problems = append(problems, t.ID+": "+oneLine(t.Problem, 200))
		}
	}
	if len(tokens) > 1 {
		out = append(out, "The trials were scored on different numbers of tokens: their losses are not of the same text or not per the same token. Compare --metric bits_per_byte, and only where the text is the same.")
	}
	if len(r.Ran.Programs) > 1 {
		out = append(out, "The trials ran with different versions of the program.")
	}
	if len(r.Ran.Machines) > 1 || len(r.Ran.Backends) > 1 || len(r.Ran.Threads) > 1 {
		out = append(out, "The trials ran on different machines, backends or numbers of threads: compare speeds and memory with care.")
	}
	unmatched := 0
	for _, c := range r.Cells {
		if c.Comparison != nil && c.Comparison.With == "" {
			unmatched++
		}
	}
	if unmatched > 0 {
		out = append(out, fmt.Sprintf("The plan has no baseline cell for %s: those are not compared.", plural(unmatched, "cell", "cells")))
	}
	if len(problems) > 0 {
		out = append(out, "Curves that could not be read whole: "+someOf(problems, 5)+".")
	}
	return out
}
