package train

import (
	"context"
	"fmt"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/memory"
	"github.com/ternlm/tern/model"
)

// Score is the result of an evaluation.
type Score struct {
	Loss        float64 `json:"loss"`          // nats a token
	Perplexity  float64 `json:"perplexity"`    // exp of it
	BitsPerByte float64 `json:"bits_per_byte"` // of the text that the tokens stand for
	Tokens      int     `json:"tokens"`        // targets scored
	Bytes       int64   `json:"bytes"`         // of their text; an end-of-text token has none
}

// Evaluator scores a model on windows of a text, the context starting afresh
// in each.
type Evaluator struct {
	exe     framework.Executable
	windows *data.Eval
	bytes   int64
	in, out []*tensor.Tensor
	window  int
}

// NewEvaluator compiles the evaluation of m for pass p on the first limit
// windows (0 is all) of tokens, batch windows at a time. memory.ErrNotEnough where that
// does not fit.
func NewEvaluator(ctx context.Context, be framework.Backend, m *model.Model, p model.Pass, tokens *data.Tokens, batch, window, limit int) (*Evaluator, error) {
	w, err := tokens.EvalWindows(data.EvalOptions{Batch: batch, Window: window, Limit: limit})
	if err != nil {
		return nil, errors.Wrap(err, "evaluation")
	}
	bytes, err := w.TargetBytes()
	if err != nil {
		return nil, errors.Wrap(err, "evaluation")
	}
	lower := fmt.Sprintf("lower batch (now %d) or window (now %d)", batch, window)
	g, err := m.LossOf(batch, window, p)
	if err != nil {
		return nil, memory.Untraceable(err, "evaluation", lower)
	}
	if err := memory.Check(be, memory.Load{What: "evaluation", Graph: g, Lower: lower}); err != nil {
		return nil, err
	}
	exe, err := be.Compile(ctx, g)
	if err != nil {
		return nil, errors.Wrap(err, "compile evaluation")
	}
	return &Evaluator{
		exe: exe, windows: w, bytes: bytes, window: window,
		in:  []*tensor.Tensor{tensor.New(tensor.T(tensor.I32, batch, window)), tensor.New(tensor.T(tensor.I32, batch*window))},
		out: []*tensor.Tensor{tensor.New(tensor.T(tensor.F32, batch*window))},
	}, nil
}

// Run scores the weights in s.
func (e *Evaluator) Run(ctx context.Context, s framework.Store) (Score, error) {
	var sum float64
	n := 0
	e.windows.Rewind()
	for {
		rows, err := e.windows.Next(e.in[0].I32(), e.in[1].I32())
		if err != nil {
			return Score{}, errors.Wrap(err, "evaluation")
		}
		if rows == 0 {
			break
		}
		if err := e.exe.Run(ctx, s, e.in, e.out); err != nil {
			return Score{}, errors.Wrap(err, "evaluation")
		}
		for _, v := range e.out[0].F32()[:rows*e.window] {
			sum += float64(v)
		}
		n += rows * e.window
	}
	loss := sum / float64(n)
	return Score{
		Loss: loss, Perplexity: min(math.Exp(loss), math.MaxFloat64), BitsPerByte: sum / math.Ln2 / float64(max(1, e.bytes)),
		Tokens: n, Bytes: e.bytes,
	}, nil
}

// Close frees the compiled graph.
func (e *Evaluator) Close() error { return e.exe.Close() }
