package infer

import (
	"context"
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/memory"
)

// MaxBatch bounds the sequences of a Batch.
const MaxBatch = 1 << 16

// Batch is several sequences of one length that are continued side by side, a
// token of each in one run, each by its likeliest token. The choice is part of the
// graph: only the numbers of tokens leave the backend, not the logits. It is used
// by one goroutine at a time.
type Batch struct {
	m     *Model
	n     int
	exe   framework.Executable
	store framework.Store
	pos   int
	in    []*tensor.Tensor // tokens, pos, last
	out   []*tensor.Tensor
	next  []int32
}

// NewBatch compiles the step of n sequences and makes their caches. It returns
// memory.ErrNotEnough where they do not fit.
func (m *Model) NewBatch(ctx context.Context, n int) (*Batch, error) {
	if n < 1 || n > MaxBatch {
		return nil, errors.Wrapf(framework.ErrInput, "a batch of %d sequences, 1 to %d are allowed", n, MaxBatch)
	}
	g, err := m.model.Choose(n, m.rows, m.pass)
	if err != nil {
		return nil, errors.Wrap(err, "trace decoding of a batch")
	}
	hint := fmt.Sprintf("decode fewer sequences than %d at once, or with a shorter context (now %d)", n, m.Config.Context)
	if err := memory.Check(m.backend, memory.Load{What: "the batch", Graph: g, Lower: hint, Model: hint}); err != nil {
		return nil, err
	}
	b := &Batch{m: m, n: n, next: make([]int32, n), out: []*tensor.Tensor{tensor.New(tensor.T(tensor.F32, n))}}
	b.in = []*tensor.Tensor{tensor.New(tensor.T(tensor.I32, n, 1)), tensor.New(tensor.T(tensor.I32, n)), tensor.New(tensor.T(tensor.I32, n))}
	for i := range n {
		b.in[2].I32()[i] = int32(i) // the one row that each sequence has
	}
	if b.exe, err = m.backend.Compile(ctx, g); err != nil {
		return nil, errors.Wrap(err, "compile decoding of a batch")
	}
	if b.store, err = m.store.Fork(); err != nil {
		return nil, errors.CombineErrors(err, b.exe.Close())
	}
	return b, nil
}

// Streams returns the number of sequences.
func (b *Batch) Streams() int { return b.n }

// Len returns the number of tokens that each sequence was fed.
func (b *Batch) Len() int { return b.pos }

// Reset forgets the sequences.
func (b *Batch) Reset() { b.pos = 0 }

// Feed appends a token to each sequence and returns the likeliest that follow,
// valid until the next call. It allocates nothing.
func (b *Batch) Feed(ctx context.Context, tokens []int32) ([]int32, error) {
	if len(tokens) != b.n {
		return nil, errors.Wrapf(framework.ErrInput, "feed: %d tokens for %d sequences", len(tokens), b.n)
	}
	if b.pos >= b.m.Config.Context {
		return nil, errors.Wrapf(ErrContext, "a token after %d, the model has %d", b.pos, b.m.Config.Context)
	}
	copy(b.in[0].I32(), tokens)
	for i := range b.in[1].I32() {
		b.in[1].I32()[i] = int32(b.pos)
	}
	if err := b.exe.Run(ctx, b.store, b.in, b.out); err != nil {
		return nil, err
	}
	for i, v := range b.out[0].F32() {
		if !(v >= 0 && v < float32(b.m.Config.Vocab)) {
			return nil, errors.Newf("sequence %d has no likeliest token: its logits are no numbers", i)
		}
		b.next[i] = int32(v)
	}
	b.pos++
	return b.next, nil
}

// Close frees the caches and the graph.
func (b *Batch) Close() error { return errors.CombineErrors(b.store.Close(), b.exe.Close()) }
