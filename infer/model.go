package infer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/memory"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// Chunk is the smaller of the two numbers of tokens that prefill feeds at once,
// and the one to which the end of a prompt is padded.
const Chunk = 64

// leastPadded is the number of tokens from which padding them to a chunk pays.
const leastPadded = Chunk / 4

// chunks are the numbers of tokens that a run may take, the largest first. Where
// fewer are left a smaller one follows; only Chunk is padded.
var chunks = [...]int{4 * Chunk, Chunk, 1}

const (
	chunkStep  = len(chunks) - 2 // the index of Chunk
	decodeStep = len(chunks) - 1
)

// Model is a model ready to run. Sessions made of it share its weights and may
// run side by side.
type Model struct {
	Config  model.Config
	backend framework.Backend
	store   framework.Store
	model   *model.Model
	pass    model.Pass
	rows    int // of the caches
	steps   [len(chunks)]step
}

// step is the graph of so many tokens, compiled when it is first run.
type step struct {
	once sync.Once
	exe  framework.Executable
	err  error
}

// Option changes how a model is run.
type Option func(*model.Pass)

// CacheType keeps keys and values as d: tensor.F32, which is the default, or
// tensor.F16, which takes half the memory and rounds them.
func CacheType(d tensor.DType) Option { return func(p *model.Pass) { p.CacheType = d } }

// Load puts the weights into a store of be and compiles the graph of decoding;
// those of prefill are compiled when they are first needed. It returns
// memory.ErrNotEnough where the weights, one session's caches and the working
// memory of the largest graph do not fit.
func Load(ctx context.Context, be framework.Backend, w *modelfile.Weights, options ...Option) (*Model, error) {
	p := modelfile.Pass
	for _, o := range options {
		o(&p)
	}
	rows, most := cacheRows(w.Model), chunks[0]
	if most > rows {
		most = Chunk
	}
	g, err := w.Model.Step(1, most, rows, p)
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
	return New(ctx, be, w.Model, s, p)
}

// cacheRows is the number of tokens that the caches have room for.
func cacheRows(m *model.Model) int { return (m.Context + Chunk - 1) / Chunk * Chunk }

// New readies m, traced with p, for the weights in s. The graphs of prefill are
// compiled when they are needed. The model closes s.
func New(ctx context.Context, be framework.Backend, m *model.Model, s framework.Store, p model.Pass) (*Model, error) {
	out := &Model{Config: m.Config, backend: be, store: s, model: m, pass: p, rows: cacheRows(m)}
	if _, err := out.step(ctx, decodeStep); err != nil {
		return nil, errors.CombineErrors(err, s.Close())
	}
	return out, nil
}

// step returns the executable of step i.
func (m *Model) step(ctx context.Context, i int) (framework.Executable, error) {
	s := &m.steps[i]
	s.once.Do(func() {
		// What is compiled stays: one caller's end is not everyone's.
		s.exe, s.err = m.compile(context.WithoutCancel(ctx), chunks[i])
	})
	return s.exe, s.err
}

// compile compiles the step of so many tokens, all of whose weights must be in
// the store: a buffer that is not would be taken for zeros.
func (m *Model) compile(ctx context.Context, tokens int) (framework.Executable, error) {
	g, err := m.model.Step(1, tokens, m.rows, m.pass)
	if err != nil {
		return nil, errors.Wrap(err, "trace decoding")
	}
	have := m.store.Names()
	for _, n := range g.States {
		if _, found := slices.BinarySearch(have, n.Name()); !found && !strings.Contains(n.Name(), ".cache.") {
			return nil, errors.Wrapf(framework.ErrNoState, "weight %q", n.Name())
		}
	}
	exe, err := m.backend.Compile(ctx, g)
	return exe, errors.Wrap(err, "compile decoding")
}

// Close frees graphs and weights; sessions are closed first.
func (m *Model) Close() error {
	var err error
	for i := range m.steps {
		if exe := m.steps[i].exe; exe != nil {
			err = errors.CombineErrors(err, exe.Close())
		}
	}
	return errors.CombineErrors(err, m.store.Close())
}

// Session is one sequence: the tokens fed so far, as keys and values in a
// fork of the model's store. It is used by one goroutine at a time.
type Session struct {
	m      *Model
	store  framework.Store
	pos    int
	inputs [len(chunks)][]*tensor.Tensor // of each step: tokens, pos, last
	logits []*tensor.Tensor
}

// NewSession starts an empty sequence.
func (m *Model) NewSession() (*Session, error) {
	s, err := m.store.Fork()
	if err != nil {
		return nil, err
	}
	out := &Session{m: m, store: s, logits: []*tensor.Tensor{tensor.New(tensor.T(tensor.F32, 1, m.Config.Vocab))}}
	for i, n := range chunks {
		out.inputs[i] = []*tensor.Tensor{tensor.New(tensor.T(tensor.I32, 1, n)), tensor.New(tensor.T(tensor.I32, 1)), tensor.New(tensor.T(tensor.I32, 1))}
	}
	return out, nil
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
		i := s.choose(len(tokens))
		n := min(chunks[i], len(tokens))
		if err := s.run(ctx, i, tokens[:n]); err != nil {
			return nil, err
		}
		tokens = tokens[n:]
	}
	return s.Logits(), nil
}

// choose returns the step that takes the next of so many tokens.
func (s *Session) choose(left int) int {
	for i, n := range chunks[:chunkStep] {
		if left >= n {
			return i
		}
	}
	// A few tokens are sooner fed alone than padded, and a padded chunk may not
	// reach beyond the cache.
	if left < leastPadded || s.pos+Chunk > s.m.rows {
		return decodeStep
	}
	return chunkStep
}

// run feeds tokens through step i, padded to its length. What pads them lies
// behind every token that looks at it, and is overwritten by the next one.
func (s *Session) run(ctx context.Context, i int, tokens []int32) error {
	exe, err := s.m.step(ctx, i)
	if err != nil {
		return err
	}
	in := s.inputs[i]
	ids := in[0].I32()
	clear(ids[copy(ids, tokens):])
	in[1].I32()[0], in[2].I32()[0] = int32(s.pos), int32(len(tokens)-1)
	if err := exe.Run(ctx, s.store, in, s.logits); err != nil {
		return err
	}
	s.pos += len(tokens)
	return nil
}

// Close frees the caches.
func (s *Session) Close() error { return s.store.Close() }
