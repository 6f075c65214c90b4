package infer

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func draws(t *testing.T, o Sampling, logits []float32, n int) []int {
	t.Helper()
	s, err := NewSampler(o, len(logits))
	if err != nil {
		t.Fatal(err)
	}
	count := make([]int, len(logits))
	for range n {
		count[s.Next(logits)]++
	}
	return count
}

func TestSamplingFollowsTheDistribution(t *testing.T) {
	const n = 40_000
	logits := []float32{1, 3, 2, 0, 2.5, float32(math.NaN()), float32(math.Inf(-1))}
	for _, c := range []struct {
		name string
		o    Sampling
		kept []int // tokens that may be drawn
	}{
		{"temperature 1", Sampling{Temperature: 1, Seed: 1}, []int{0, 1, 2, 3, 4}},
		{"temperature 0.5", Sampling{Temperature: 0.5, Seed: 2}, []int{0, 1, 2, 3, 4}},
		{"top-k 3", Sampling{Temperature: 1, TopK: 3, Seed: 3}, []int{1, 4, 2}},
		{"top-p 0.7", Sampling{Temperature: 1, TopP: 0.7, Seed: 4}, []int{1, 4}},
		{"top-k 4 and top-p 0.9", Sampling{Temperature: 1, TopK: 4, TopP: 0.9, Seed: 5}, []int{1, 4, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sum float64
			p := make([]float64, len(logits))
			for _, i := range c.kept {
				p[i] = math.Exp(float64(logits[i]) / c.o.Temperature)
				sum += p[i]
			}
			for i, got := range draws(t, c.o, logits, n) {
				want := p[i] / sum
				if d := math.Abs(float64(got)/n - want); d > 5*math.Sqrt(want*(1-want)/n) {
					t.Errorf("token %d drawn %d times of %d, want a share of %.4f", i, got, n, want)
				}
			}
		})
	}
}

func TestGreedyTakesTheLikeliest(t *testing.T) {
	for _, c := range []struct {
		logits []float32
		want   int
	}{
		{[]float32{1, 3, 3, 2}, 1},
		{[]float32{float32(math.NaN()), -5, -4}, 2},
		{[]float32{float32(math.Inf(-1)), -1e30}, 1},
	} {
		if got := draws(t, Sampling{}, c.logits, 1); got[c.want] != 1 {
			t.Errorf("%v: %v, want token %d", c.logits, got, c.want)
		}
	}
}

func TestSameSeedSameTokens(t *testing.T) {
	logits := make([]float32, 1000)
	for i := range logits {
		logits[i] = float32(i%17) / 4
	}
	seq := func(seed uint64) (ids []int32) {
		s, err := NewSampler(Sampling{Temperature: 1, TopK: 50, Seed: seed}, len(logits))
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			ids = append(ids, s.Next(logits))
		}
		return ids
	}
	a, b, c := seq(1), seq(1), seq(2)
	differ := false
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("token %d is %d and %d with one seed", i, a[i], b[i])
		}
		differ = differ || a[i] != c[i]
	}
	if !differ {
		t.Error("seeds 1 and 2 draw the same tokens")
	}
}

func TestBadSamplingOptions(t *testing.T) {
	for _, o := range []Sampling{{Temperature: -1}, {Temperature: math.NaN()}, {TopK: -1}, {TopP: 1.5}, {TopP: math.NaN()}} {
		if o.Validate() == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// The choices are those of a sampler that sorts everything.
func TestSamplingIsThatOfSortingEverything(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const vocab = 3000
	logits := make([]float32, vocab)
	for _, o := range []Sampling{
		{Temperature: 0.8, TopK: 40},
		{Temperature: 1, TopK: 1},
		{Temperature: 2, TopK: 5000},
		{Temperature: 1, TopK: 1100},
		{Temperature: 1, TopP: 0.9},
		{Temperature: 5, TopP: 0.999},
		{Temperature: 1, TopK: 300, TopP: 0.8},
		{Temperature: 1},
	} {
		for round := range 50 {
			for i := range logits {
				logits[i] = float32(math.Round(4*r.NormFloat64())) / 2 // with ties
				if r.IntN(50) == 0 {
					logits[i] = float32(math.NaN())
				}
			}
			o.Seed = uint64(round)
			s, err := NewSampler(o, vocab)
			if err != nil {
				t.Fatal(err)
			}
			ids, p := sorted(o, logits)
			got := s.Next(logits)
			// u lies within the share of the token, up to what rounding moves.
			u, lo := s.key.Float64(0), 0.0
			at := slices.Index(ids, got)
			if at < 0 {
				t.Fatalf("%+v: token %d is cut off", o, got)
			}
			if o.TopK == 0 && o.TopP == 0 {
				slices.Sort(ids) // drawn in the order of the vocabulary
				at = slices.Index(ids, got)
			}
			for _, id := range ids[:at] {
				lo += p[id]
			}
			if u < lo-1e-9 || u > lo+p[got]+1e-9 {
				t.Fatalf("%+v: drew %v, token %d has %v to %v", o, u, got, lo, lo+p[got])
			}
		}
	}
}

// sorted returns the tokens that are left, the likeliest first, and their
// probabilities.
func sorted(o Sampling, logits []float32) (ids []int32, p map[int32]float64) {
	for i, l := range logits {
		if l == l {
			ids = append(ids, int32(i))
		}
	}
	slices.SortStableFunc(ids, func(a, b int32) int { return cmp.Compare(logits[b], logits[a]) })
	if o.TopK > 0 {
		ids = ids[:min(o.TopK, len(ids))]
	}
	p = map[int32]float64{}
	scale := func() {
		sum := 0.0
		for _, id := range ids {
			sum += p[id]
		}
		for _, id := range ids {
			p[id] /= sum
		}
	}
	for _, id := range ids {
		p[id] = math.Exp(float64(logits[id]-logits[ids[0]]) / o.Temperature)
	}
	scale()
	if o.TopP > 0 && o.TopP < 1 {
		sum := 0.0
		for i, id := range ids {
			if sum += p[id]; sum >= o.TopP {
				ids = ids[:i+1]
				break
			}
		}
		scale()
	}
	return ids, p
}

// BenchmarkSampler chooses from a vocabulary of the usual size.
func BenchmarkSampler(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 4))
	logits := make([]float32, 50257)
	for i := range logits {
		logits[i] = float32(3 * r.NormFloat64())
	}
	for name, o := range map[string]Sampling{
		"greedy": {}, "top-k 40": {Temperature: 0.8, TopK: 40}, "top-p 0.9": {Temperature: 0.8, TopP: 0.9}, "all": {Temperature: 0.8},
	} {
		b.Run(name, func(b *testing.B) {
			s, err := NewSampler(o, len(logits))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				s.Next(logits)
			}
		})
	}
}
