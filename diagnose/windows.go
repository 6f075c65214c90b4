package diagnose

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/data"
)

// Windows is the text that a model reads for a diagnosis: Batch sequences of
// Window tokens.
type Windows struct {
	Batch, Window   int
	Tokens, Targets []int32 // [Batch*Window]; a target below 0 does not count
}

// FirstWindows takes the first n windows of a text, or as many as it has.
// Errors: data.ErrOption, data.ErrTooShort.
func FirstWindows(t *data.Tokens, n, window int) (Windows, error) {
	e, err := t.EvalWindows(data.EvalOptions{Batch: 1, Window: window, Limit: n})
	if err != nil {
		return Windows{}, errors.Wrap(err, "diagnosis")
	}
	w := Windows{Batch: e.Len(), Window: window}
	w.Tokens, w.Targets = make([]int32, w.Batch*window), make([]int32, w.Batch*window)
	for i := range w.Batch {
		lo, hi := i*window, (i+1)*window
		if _, err := e.Next(w.Tokens[lo:hi], w.Targets[lo:hi]); err != nil {
			return Windows{}, errors.Wrap(err, "diagnosis")
		}
	}
	return w, nil
}
