package train

import "math"

// Factor is what the learning rates are multiplied by in step s, counted from
// 0. After a linear warm-up to 1 (s+1 over the warm-up's steps),
//
//   - wsd stays at 1 until Stable of all steps, then falls by half a cosine to
//     Floor (warm-up, stable, decay; arXiv 2404.06395);
//   - cosine falls by half a cosine to Floor over all that is left.
func (r Recipe) Factor(s int) float64 {
	if s < r.Warmup {
		return float64(s+1) / float64(r.Warmup)
	}
	start := float64(r.Warmup)
	if r.Schedule == "wsd" {
		start = max(start, r.Stable*float64(r.Steps))
	}
	if float64(s) < start {
		return 1
	}
	p := min(1, (float64(s)-start)/max(1, float64(r.Steps)-start))
	return r.Floor + (1-r.Floor)/2*(1+math.Cos(math.Pi*p))
}
