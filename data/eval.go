package data

import "github.com/cockroachdb/errors"

// EvalOptions says which windows an evaluation reads: the first Limit, in the
// file's order. The fields are those of BatchOptions.
type EvalOptions struct {
	Batch, Window, Stride int
	AlignStories          bool
	Limit                 int // windows; 0 is all
}

// Eval reads the windows of an evaluation once, in order. It is not safe for
// concurrent use.
type Eval struct {
	windows
	batch int
	next  int
}

// EvalWindows returns the first o.Limit windows of a sequence, or all where it
// has fewer. Errors: ErrOption, ErrTooShort.
func (t *Tokens) EvalWindows(o EvalOptions) (*Eval, error) {
	if o.Batch < 1 || o.Batch > maxBatch || o.Limit < 0 {
		return nil, errors.WithHint(errors.Wrapf(ErrOption, "batch %d, limit %d", o.Batch, o.Limit), "a batch has 1 to 1048576 windows; limit 0 takes all")
	}
	w, err := newWindows(t, o.Window, o.Stride, o.AlignStories)
	if err != nil {
		return nil, err
	}
	if o.Limit > 0 {
		w.count = min(w.count, o.Limit)
	}
	return &Eval{windows: w, batch: o.Batch}, nil
}

// Next fills tokens and targets, each [Batch*Window], with the next windows
// and returns how many rows it filled: fewer than Batch in the last batch,
// whose other rows are zeros and must not be counted, and 0 after it. Next does
// not allocate.
func (e *Eval) Next(tokens, targets []int32) (rows int, err error) {
	if n := e.batch * e.length; len(tokens) != n || len(targets) != n {
		return 0, errors.Wrapf(ErrOption, "batch of %d x %d: %d tokens, %d targets", e.batch, e.length, len(tokens), len(targets))
	}
	rows = min(e.batch, e.count-e.next)
	for r := range rows {
		lo, hi := r*e.length, (r+1)*e.length
		if err := e.read(e.next+r, tokens[lo:hi], targets[lo:hi]); err != nil {
			return 0, err
		}
	}
	clear(tokens[rows*e.length:])
	clear(targets[rows*e.length:])
	e.next += rows
	return rows, nil
}

// Rewind starts again at the first window.
func (e *Eval) Rewind() { e.next = 0 }

// Len returns the number of windows.
func (e *Eval) Len() int { return e.count }

// Targets returns the number of targets in all windows.
func (e *Eval) Targets() int { return e.count * e.length }

// TargetBytes returns the bytes of text of the targets in all windows, an
// end-of-text id counting 0: what turns nats a target into bits a byte. It
// leaves Next where it is.
func (e *Eval) TargetBytes() (int64, error) {
	var n int64
	for i := range e.count {
		if err := e.t.Read(e.row, e.start(i)); err != nil {
			return 0, errors.Wrapf(err, "window %d", i)
		}
		n += int64(e.t.tok.BytesOf(e.row[1:]))
	}
	return n, nil
}
