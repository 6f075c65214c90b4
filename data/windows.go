package data

import "github.com/cockroachdb/errors"

const (
	maxBatch  = 1 << 20
	maxWindow = 1 << 24
)

// windows says where the windows of a sequence start. A window of T inputs is
// T+1 tokens: targets are the inputs one token on.
type windows struct {
	t      *Tokens
	length int     // T
	stride int     // from a window's start to the next
	count  int     // of windows
	starts []int64 // of windows that start at documents; nil for start = i*stride
	row    []int32 // [T+1], one window
}

func newWindows(t *Tokens, length, stride int, align bool) (windows, error) {
	if length < 1 || length > maxWindow || stride < 0 {
		return windows{}, errors.WithHint(errors.Wrapf(ErrOption, "window %d, stride %d", length, stride), "windows have 1 to 16777216 tokens, the stride is at least 1")
	}
	if stride == 0 {
		stride = length + 1
	}
	w := windows{t: t, length: length, stride: stride, row: make([]int32, length+1)}
	if t.Len() < length+1 {
		return windows{}, errors.WithHint(errors.Wrapf(ErrTooShort, "%s: %d tokens, a window takes %d", t.path, t.Len(), length+1),
			"use a shorter window or more text")
	}
	w.count = (t.Len()-length-1)/stride + 1
	if align {
		if err := t.guard(w.align); err != nil {
			return windows{}, err
		}
	}
	return w, nil
}

// align lets windows start at documents. The next window starts at the last
// document start that is at most a stride after this window's, so it repeats
// the document that this window cut off, from its beginning; where a document
// is longer than that, it goes on inside it, a stride further. Every token but
// those of an incomplete last window is in some window.
func (w *windows) align() error {
	eot := w.t.EOT()
	end := int64(w.t.Len() - w.length) // starts are below it
	start, last := int64(0), int64(0)  // last: the last document start seen
	w.starts = append(w.starts, 0)
	for i := int64(1); i <= int64(w.t.Len()); i++ {
		if w.t.id(int(i)-1) == eot {
			last = i // within a stride of start, or the check below has moved start
		}
		for i-start == int64(w.stride) {
			if last <= start {
				last = start + int64(w.stride)
			}
			start = last
			if start >= end {
				w.count = len(w.starts)
				return nil
			}
			w.starts = append(w.starts, start)
		}
	}
	w.count = len(w.starts)
	return nil
}

func (w *windows) start(i int) int {
	if w.starts != nil {
		return int(w.starts[i])
	}
	return i * w.stride
}

// read fills tokens and targets, [T] each, with window i.
func (w *windows) read(i int, tokens, targets []int32) error {
	if err := w.t.Read(w.row, w.start(i)); err != nil {
		return errors.Wrapf(err, "window %d", i)
	}
	copy(tokens, w.row)
	copy(targets, w.row[1:])
	return nil
}
