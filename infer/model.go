package infer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/memory"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// Chunk is the number of tokens that prefill feeds at once.
const Chunk = 64

// Model is a model ready to run. Sessions made of it share its weights and may
// run side by side.
type Model struct {
	Config  model.Config
	backend framework.Backend
	store   framework.Store
	prefill framework.Executable // Chunk tokens
	decode  framework.Executable // one token
	rows    int                  // of the caches
}

// Load puts the weights into a store of be and compiles the graphs. It returns
// memory.ErrNotEnough where they and one session's caches do not fit.
func Load(ctx context.Context, be framework.Backend, w *modelfile.Weights) (*Model, error) {
	g, err := w.Model.Step(1, Chunk, cacheRows(w.Model), modelfile.Pass)
	if err != nil {
		return nil, errors.Wrap(err, "trace decoding") // the model's own sizes are bounded
	}
	hint := fmt.Sprintf("run a model with a shorter context (this one's is %d), fewer layers or a smaller width", w.Model.Context)
	if err := memory.Check(be, memory.Load{What: "the model", Graph: g, Lower: hint, Model: hint}); err != nil {
		return nil, err
	}
	s, err := be.NewStore()
	if err != nil {
		return nil, err
	}
	if err := w.Put(ctx, s); err != nil {
		return nil, errors.CombineErrors(err, s.Close())
	}
	return New(ctx, be, w.Model, s, modelfile.Pass)
}

// cacheRows is the number of tokens that the caches have room for.
func cacheRows(m *model.Model) int { return (m.Context + Chunk - 1) / Chunk * Chunk }

// New compiles the graphs of m, traced with p, for the weights in s. The
// model closes s.
func New(ctx context.Context, be framework.Backend, m *model.Model, s framework.Store, p model.Pass) (*Model, error) {
	out := &Model{Config: m.Config, backend: be, store: s, rows: cacheRows(m)}
	var err error
	if out.prefill, err = compileStep(ctx, be, m, s, Chunk, out.rows, p); err == nil {
		out.decode, err = compileStep(ctx, be, m, s, 1, out.rows, p)
	}
	if err != nil {
		return nil, errors.CombineErrors(err, s.Close())
	}
	return out, nil
}

// compileStep compiles the step of so many tokens, all of whose weights must be
// in s: a buffer that is not would be taken for zeros.
func compileStep(ctx context.Context, be framework.Backend, m *model.Model, s framework.Store, tokens, rows int, p model.Pass) (framework.Executable, error) {
	g, err := m.Step(1, tokens, rows, p)
	if err != nil {
		return nil, errors.Wrap(err, "trace decoding")
	}
	have := s.Names()
	for _, n := range g.States {
		if _, found := slices.BinarySearch(have, n.Name()); !found && !strings.Contains(n.Name(), ".cache.") {
			return nil, errors.Wrapf(framework.ErrNoState, "weight %q", n.Name())
		}
	}
	exe, err := be.Compile(ctx, g)
	return exe, errors.Wrap(err, "compile decoding")
}

// Close frees graphs and weights; sessions are closed first.
func (m *Model) Close() error {
	return errors.CombineErrors(errors.CombineErrors(m.prefill.Close(), m.decode.Close()), m.store.Close())
}

// Session is one sequence: the tokens fed so far, as keys and values in a
// fork of the model's store. It is used by one goroutine at a time.
type Session struct {
	m      *Model
	store  framework.Store
	pos    int
	one    []*tensor.Tensor // inputs of decode: tokens, pos, last
	chunk  []*tensor.Tensor // inputs of prefill
	logits []*tensor.Tensor
}

// NewSession starts an empty sequence.
func (m *Model) NewSession() (*Session, error) {
	s, err := m.store.Fork()
	if err != nil {
		return nil, err
	}
	inputs := func(n int) []*tensor.Tensor {
		return []*tensor.Tensor{tensor.New(tensor.T(tensor.I32, 1, n)), tensor.New(tensor.T(tensor.I32, 1)), tensor.New(tensor.T(tensor.I32, 1))}
	}
	return &Session{
		m: m, store: s, one: inputs(1), chunk: inputs(Chunk),
		logits: []*tensor.Tensor{tensor.New(tensor.T(tensor.F32, 1, m.Config.Vocab))},
	}, nil
}

// ErrContext is returned when a sequence would outgrow the model's context.
var ErrContext = errors.New("context is full")

// Len returns the number of tokens fed.
func (s *Session) Len() int { return s.pos }

// Logits returns the logits [Vocab] after the last token fed.
func (s *Session) Logits() []float32 { return s.logits[0].F32() }

// Reset forgets the sequence.
func (s *Session) Reset() { s.pos = 0 }

// Feed appends tokens and returns the logits [Vocab] after the last of them,
// valid until the next call. It gives the same bits however a sequence is
// cut into calls. Feeding one token allocates nothing.
func (s *Session) Feed(ctx context.Context, tokens []int32) ([]float32, error) {
	if len(tokens) == 0 {
		return nil, errors.Wrap(framework.ErrInput, "feed: no tokens")
	}
	if s.pos+len(tokens) > s.m.Config.Context {
		err := errors.Wrapf(ErrContext, "%d tokens after %d, the model has %d", len(tokens), s.pos, s.m.Config.Context)
		return nil, errors.WithHint(err, "shorten the prompt or ask for fewer tokens")
	}
	for len(tokens) > 0 {
		exe, in, n := s.m.decode, s.one, 1
		if len(tokens) > 1 {
			exe, in, n = s.m.prefill, s.chunk, min(Chunk, len(tokens))
		}
		ids := in[0].I32()
		copy(ids, tokens[:n])
		// What pads the chunk lies behind every token that looks at it, and is
		// overwritten by the next one.
		clear(ids[n:])
		in[1].I32()[0], in[2].I32()[0] = int32(s.pos), int32(n-1)
		if s.pos+len(ids) > s.m.rows {
			// A padded chunk may not reach beyond the cache: feed singly.
			exe, in, n = s.m.decode, s.one, 1
			in[0].I32()[0], in[1].I32()[0], in[2].I32()[0] = tokens[0], int32(s.pos), 0
		}
		if err := exe.Run(ctx, s.store, in, s.logits); err != nil {
			return nil, err
		}
		s.pos += n
		tokens = tokens[n:]
	}
	return s.Logits(), nil
}

// Close frees the caches.
func (s *Session) Close() error { return s.store.Close() }
