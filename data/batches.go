package data

import "github.com/cockroachdb/errors"

// BatchOptions says how a sequence of tokens becomes batches.
type BatchOptions struct {
	Batch  int // B, windows in a batch, at least 1
	Window int // T, inputs in a window, at least 1

	// Stride is the distance between the starts of windows. 0 is Window+1:
	// windows share no token (the report's 257-token windows), and one token in
	// Window+1 is never a target. Window makes every token but the first a
	// target exactly once.
	Stride int

	// Shuffle draws the windows of each epoch in a pseudo-random order, another
	// one for each Seed and epoch. Without it they come in the file's order.
	Shuffle bool
	Seed    uint64

	// AlignStories lets each window start at the start of a document, so that
	// no story is met without its beginning. Each window starts at the last
	// document start within Stride of the one before (inside the document, where
	// that is longer). Nothing is left out, but the document that a window cuts
	// off comes again, whole. On TinyStories with Window 256 an epoch has 1.4
	// times as many windows, of which 86 % start a story and the others go on
	// inside a long one. Costs one pass over the file and 8 bytes a window.
	AlignStories bool
}

// Batches draws windows of a token sequence, epoch after epoch, in an order
// that is a function of the options alone. It is not safe for concurrent use.
type Batches struct {
	windows
	o      BatchOptions
	cursor uint64
	epoch  uint64 // of perm
	perm   permutation
}

// Batches returns the batches of a sequence from cursor 0 on. Several may read
// one sequence. Errors: ErrOption, ErrTooShort.
func (t *Tokens) Batches(o BatchOptions) (*Batches, error) {
	if o.Batch < 1 || o.Batch > maxBatch {
		return nil, errors.WithHint(errors.Wrapf(ErrOption, "batch %d", o.Batch), "a batch has 1 to 1048576 windows")
	}
	w, err := newWindows(t, o.Window, o.Stride, o.AlignStories)
	if err != nil {
		return nil, err
	}
	b := &Batches{windows: w, o: o}
	b.perm = newPermutation(uint64(w.count), o.Seed, 0)
	return b, nil
}

// Next fills tokens and targets, each [B*T], with the next B windows: row r is
// elements r*T to (r+1)*T-1, and each target is the token after its input. A
// batch may reach over the end of an epoch. After an error the cursor is where
// it was. Next does not allocate.
func (b *Batches) Next(tokens, targets []int32) error {
	if n := b.o.Batch * b.length; len(tokens) != n || len(targets) != n {
		return errors.Wrapf(ErrOption, "batch of %d x %d: %d tokens, %d targets", b.o.Batch, b.length, len(tokens), len(targets))
	}
	for r := range b.o.Batch {
		lo, hi := r*b.length, (r+1)*b.length
		if err := b.read(b.index(b.cursor+uint64(r)), tokens[lo:hi], targets[lo:hi]); err != nil {
			return err
		}
	}
	b.cursor += uint64(b.o.Batch)
	return nil
}

// index returns the window that is drawn at a cursor.
func (b *Batches) index(cursor uint64) int {
	epoch, i := cursor/uint64(b.count), cursor%uint64(b.count)
	if !b.o.Shuffle {
		return int(i)
	}
	if epoch != b.epoch {
		b.epoch, b.perm = epoch, newPermutation(uint64(b.count), b.o.Seed, epoch)
	}
	return int(b.perm.at(i))
}

// Cursor returns the number of windows drawn so far.
func (b *Batches) Cursor() uint64 { return b.cursor }

// Seek goes to where cursor windows were drawn, in constant time.
func (b *Batches) Seek(cursor uint64) { b.cursor = cursor }

// Epoch returns how many times all windows were drawn.
func (b *Batches) Epoch() uint64 { return b.cursor / uint64(b.count) }

// Len returns the number of windows in an epoch.
func (b *Batches) Len() int { return b.count }

// Options returns the options that Batches was given.
func (b *Batches) Options() BatchOptions { return b.o }

// Tokens returns the sequence that the windows are cut from.
func (b *Batches) Tokens() *Tokens { return b.t }
