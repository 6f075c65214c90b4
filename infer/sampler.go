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
	if k := s.o.TopK; k > 0 && k <= heapMost {
		s.take(logits, k)
	} else {
		s.takeAll(logits)
	}
	if len(s.items) == 0 {
		return 0
	}
	s.cutK()
	s.probabilities()
	s.cutP()
	return s.draw(u)
}

// heapMost is the largest k for which the likeliest are kept in a heap.
const heapMost = 1024

// takeAll takes every token as a candidate.
func (s *Sampler) takeAll(logits []float32) {
	for i, l := range logits {
		if l == l { // not NaN
			s.items = append(s.items, candidate{id: int32(i), logit: l})
		}
	}
}

// take takes the k likeliest, kept while going through the logits as a heap with
// the least likely on top: hardly any logit gets past it.
func (s *Sampler) take(logits []float32, k int) {
	i := 0
	for ; i < len(logits) && len(s.items) < k; i++ {
		if l := logits[i]; l == l {
			s.items = append(s.items, candidate{id: int32(i), logit: l})
		}
	}
	for j := len(s.items)/2 - 1; j >= 0; j-- {
		s.sink(j)
	}
	if len(s.items) == 0 {
		return
	}
	least := s.items[0].logit
	for j, l := range logits[i:] {
		if l > least { // of equals the first stays, and NaN is not greater
			s.items[0] = candidate{id: int32(i + j), logit: l}
			s.sink(0)
			least = s.items[0].logit
		}
	}
}

// sink moves item i of the heap down to its place.
func (s *Sampler) sink(i int) {
	for {
		c := 2*i + 1
		if c >= len(s.items) {
			return
		}
		if c+1 < len(s.items) && likelier(s.items[c], s.items[c+1]) < 0 {
			c++
		}
		if likelier(s.items[i], s.items[c]) > 0 {
			return
		}
		s.items[i], s.items[c] = s.items[c], s.items[i]
		i = c
	}
}

func argmax(logits []float32) int32 {
	best, top := -1, float32(0)
	for i, l := range logits {
		if l > top || best < 0 && l == l {
			best, top = i, l
		}
	}
	return int32(max(best, 0))
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

// cutK keeps the k likeliest, the likeliest first.
func (s *Sampler) cutK() {
	k := s.o.TopK
	if k == 0 {
		return
	}
	if k < len(s.items) {
		s.partition(0, k)
		s.items = s.items[:k]
	}
	slices.SortFunc(s.items, likelier)
}

// partition brings the likeliest of the items from lo on, down to place k, to
// the front of them (quickselect).
func (s *Sampler) partition(lo, k int) {
	hi := len(s.items)
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
	// They are seldom many: the front is put in order, and more of it when that
	// is not enough.
	var sum float64
	sorted := 0
	for i := range s.items {
		if i == sorted && s.o.TopK == 0 {
			sorted = min(max(256, 4*sorted), len(s.items))
			if sorted < len(s.items) {
				s.partition(i, sorted)
			}
			slices.SortFunc(s.items[i:sorted], likelier)
		}
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
