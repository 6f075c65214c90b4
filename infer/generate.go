package infer

import (
	"context"
	"iter"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
)

// Generate feeds the prompt and yields up to limit tokens, each fed in turn.
// It ends early after the token end (which it does not yield), at the end of
// the context, or with an error.
func Generate(ctx context.Context, s *Session, prompt []int32, smp *Sampler, end int32, limit int) iter.Seq2[int32, error] {
	return func(yield func(int32, error) bool) {
		logits, err := s.Feed(ctx, prompt)
		if err != nil {
			yield(0, err)
			return
		}
		next := []int32{0}
		for i := range limit {
			next[0] = smp.Next(logits)
			if next[0] == end || !yield(next[0], nil) {
				return
			}
			if i == limit-1 || s.Len() >= s.m.Config.Context {
				return
			}
			if logits, err = s.Feed(ctx, next); err != nil {
				yield(0, errors.Wrap(err, "generate"))
				return
			}
		}
	}
}

// CheckPrompt reports a prompt that the model cannot take.
func (m *Model) CheckPrompt(prompt []int32) error {
	for i, id := range prompt {
		if id < 0 || int(id) >= m.Config.Vocab {
			return errors.Wrapf(framework.ErrInput, "prompt token %d is %d, the vocabulary has %d", i, id, m.Config.Vocab)
		}
	}
	return nil
}
