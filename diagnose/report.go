package diagnose

import (
	"math"
	"slices"
)

// Report is the state of the residual streams. Lists hold an element for each
// sub-layer, that of the stream which it leaves. What does not apply is left
// out: a residual of one stream has nothing to compare, and one that is no
// framework.Mixer has no matrices.
type Report struct {
	// CompositeGain is the gain of the last composite matrix, averaged over the
	// tokens where it follows them (as arXiv 2512.24880 does).
	CompositeGain float64 `json:"composite_gain,omitempty"`
	// Violations counts sub-layers whose mixing matrix has, at any of the tokens,
	// a row or column sum off 1, or a negative element, by more than Tolerance.
	Violations int `json:"violations"`
	// Divergence is |s_i - mean| / |mean| of the streams s_i, root mean square
	// over streams and tokens: exactly 0 where the streams are equal.
	Divergence []float64 `json:"divergence,omitempty"`
	// RMS is the root mean square of the streams' mean.
	RMS []float64 `json:"rms"`
	// StreamRMS is that of all streams' elements.
	StreamRMS []float64 `json:"stream_rms,omitempty"`
	// GradientRMS is the root mean square of the derivative of the loss by the
	// elements of the streams. The loss is summed over the tokens, so that the
	// number of tokens does not scale it.
	GradientRMS []float64 `json:"gradient_rms"`
	// Dominant is the share of the strongest stream, max_i |s_i|^2 / sum_i
	// |s_i|^2 of each token, averaged over tokens: 1/S where all are equally
	// strong.
	Dominant []float64 `json:"dominant,omitempty"`
	// Cosine is the cosine of two streams, averaged over tokens, of all pairs.
	Cosine []Range `json:"cosine,omitempty"`
	// Sampled is at how many tokens the matrices are looked at, 0 where none
	// follows the token.
	Sampled int `json:"sampled_tokens,omitempty"`
	// Mixing are the matrices H_l that the sub-layers mix the streams by.
	Mixing []Matrix `json:"mixing,omitempty"`
	// Composite are their products H_l ... H_1 H_0, along the path of a token
	// where they follow it.
	Composite []Matrix `json:"composite,omitempty"`
}

// Tolerance is how far off a doubly stochastic matrix may be.
const Tolerance = 1e-5

// Matrix describes a matrix H f32 [S,S] by numbers that are the same at every
// token for a static residual, and range over the sampled tokens for a dynamic
// one. Row i makes stream i.
type Matrix struct {
	RowMax   Range `json:"row_max"` // the largest of the row sums
	RowMin   Range `json:"row_min"`
	ColMax   Range `json:"col_max"`
	ColMin   Range `json:"col_min"`
	Smallest Range `json:"smallest"` // the most negative element
	// Error is how far H is from doubly stochastic: max(|row sum - 1|,
	// |column sum - 1|, -element).
	Error    Range `json:"ds_error"`
	Spectral Range `json:"spectral_norm"` // the largest singular value
	// Gain is the largest absolute row or column sum: how far mixing can
	// amplify a signal on its way forward, or a gradient on its way back.
	Gain Range `json:"gain"`
	// Violations counts the tokens at which Error is over Tolerance.
	Violations int `json:"violations"`
	// Values are the elements, averaged over the tokens; kept on demand.
	Values [][]float64 `json:"matrix,omitempty"`
}

// Range is a number over sampled tokens, or over pairs of streams.
type Range struct {
	Mean float64 `json:"mean"`
	Min  float64 `json:"min"`
	Max  float64 `json:"max"`
}

// rangeOf is the range of v, which is not empty.
func rangeOf(v []float64) Range {
	r := Range{Min: v[0], Max: v[0]}
	for _, x := range v {
		r.Mean += x / float64(len(v))
		r.Min, r.Max = min(r.Min, x), max(r.Max, x) // NaN stays
	}
	if r.Min == r.Max {
		r.Mean = r.Min
	}
	return r
}

// Finite reports whether all numbers are finite.
func (r Report) Finite() bool {
	all := []float64{r.CompositeGain}
	for _, list := range [][]float64{r.Divergence, r.RMS, r.StreamRMS, r.GradientRMS, r.Dominant} {
		all = append(all, list...)
	}
	ranges := slices.Clone(r.Cosine)
	for _, list := range [][]Matrix{r.Mixing, r.Composite} {
		for _, m := range list {
			ranges = append(ranges, m.RowMax, m.RowMin, m.ColMax, m.ColMin, m.Smallest, m.Error, m.Spectral, m.Gain)
		}
	}
	for _, x := range ranges {
		all = append(all, x.Mean, x.Min, x.Max)
	}
	for _, x := range all {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}
