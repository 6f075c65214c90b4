package infer

import (
	"math"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/rng"
)

// ErrSampling is returned for sampling options that make no sense.
var ErrSampling = errors.New("bad sampling option")

// Sampling says how the next token is chosen.
type Sampling struct {
	Temperature float64 // 0 takes the likeliest token
	TopK        int     // only the k likeliest; 0 is all
	TopP        float64 // only the likeliest that have this probability together; 0 or 1 is all
	Seed        uint64
}

// Validate reports the first option that makes no sense.
func (o Sampling) Validate() error {
	switch {
	case math.IsNaN(o.Temperature) || o.Temperature < 0 || o.Temperature > 100:
		return errors.WithHint(errors.Wrapf(ErrSampling, "temperature %v", o.Temperature), "0 is greedy, 0.8 is usual, at most 100")
	case o.TopK < 0:
		return errors.WithHint(errors.Wrapf(ErrSampling, "top-k %d", o.TopK), "0 is no limit")
	case math.IsNaN(o.TopP) || o.TopP < 0 || o.TopP > 1:
		return errors.WithHint(errors.Wrapf(ErrSampling, "top-p %v", o.TopP), "choose from 0 to 1")
	}
	return nil
}

// Sampler chooses tokens from logits. The choices are a function of the
// options and of the number of tokens chosen before.
type Sampler struct {
	o     Sampling
	key   rng.Key
	drawn uint64
	items []candidate
}

type candidate struct {
	id    int32
	logit float32
	p     float64
}

// NewSampler returns a sampler over a vocabulary.
func NewSampler(o Sampling, vocab int) (*Sampler, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Sampler{o: o, key: rng.NewKey(o.Seed, "sampler"), items: make([]candidate, 0, vocab)}, nil
}

// Next chooses a token. Equal logits are ordered by id. It allocates nothing.
func (s *Sampler) Next(logits []float32) int32 {
	u := s.key.Float64(s.drawn)
	s.drawn++
	if s.o.Temperature == 0 {
		return argmax(logits)
	}
	s.items = s.items[:0]
	for i, l := range logits {
		if !math.IsNaN(float64(l)) {
			s.items = append(s.items, candidate{id: int32(i), logit: l})
		}
	}
	if len(s.items) == 0 {
		return 0
	}
	s.cutK()
	s.probabilities()
	s.cutP()
	return s.draw(u)
}

func argmax(logits []float32) int32 {
	best := 0
	for i, l := range logits {
		if l > logits[best] || logits[best] != logits[best] {
			best = i
		}
	}
	return int32(best)
}

// likelier orders candidates, the likeliest first.
func likelier(a, b candidate) int {
	switch {
	case a.logit > b.logit:
		return -1
	case a.logit < b.logit:
		return 1
	}
	return int(a.id - b.id)
}

// cutK keeps the k likeliest. With a nucleus all are sorted.
func (s *Sampler) cutK() {
	k := s.o.TopK
	switch {
	case k > 0 && k < len(s.items):
		s.partition(k)
		s.items = s.items[:k]
		slices.SortFunc(s.items, likelier)
	case s.o.TopP > 0 && s.o.TopP < 1:
		slices.SortFunc(s.items, likelier)
	}
}

// partition brings the k likeliest to the front (quickselect).
func (s *Sampler) partition(k int) {
	lo, hi := 0, len(s.items)
	for hi-lo > 1 {
		pivot := s.items[(lo+hi)/2]
		i, j := lo, hi-1
		for i <= j {
			for likelier(s.items[i], pivot) < 0 {
				i++
			}
			for likelier(s.items[j], pivot) > 0 {
				j--
			}
			if i <= j {
				s.items[i], s.items[j] = s.items[j], s.items[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			hi = j + 1
		case k > i:
			lo = i
		default:
			return
		}
	}
}

func (s *Sampler) probabilities() {
	top := s.items[0].logit
	for _, c := range s.items {
		top = max(top, c.logit)
	}
	var sum float64
	for i := range s.items {
		p := math.Exp(float64(s.items[i].logit-top) / s.o.Temperature)
		s.items[i].p = p
		sum += p
	}
	for i := range s.items {
		s.items[i].p /= sum
	}
}

// cutP keeps the smallest set of likeliest tokens that reaches TopP.
func (s *Sampler) cutP() {
	if s.o.TopP <= 0 || s.o.TopP >= 1 {
		return
	}
	var sum float64
	for i := range s.items {
		if sum += s.items[i].p; sum >= s.o.TopP {
			s.items = s.items[:i+1]
			break
		}
	}
	for i := range s.items {
		s.items[i].p /= sum
	}
}

func (s *Sampler) draw(u float64) int32 {
	for _, c := range s.items {
		if u -= c.p; u < 0 {
			return c.id
		}
	}
	return s.items[len(s.items)-1].id // rounding left nothing
}
