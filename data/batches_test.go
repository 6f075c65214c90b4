package data

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/errors"
)

// counting returns n tokens whose ids say where they are, for n <= 50256.
func counting(t testing.TB, n int) *Tokens {
	t.Helper()
	ids := make([]uint16, n)
	for i := range ids {
		ids[i] = uint16(i)
	}
	tokens, err := NewTokens(ids, "gpt2")
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func batches(t testing.TB, tokens *Tokens, o BatchOptions) *Batches {
	t.Helper()
	b, err := tokens.Batches(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// draw returns the starts of the next n windows of a batcher over counting
// tokens, having checked every row.
func draw(t testing.TB, b *Batches, n int) []int {
	t.Helper()
	o := b.Options()
	in, out := make([]int32, o.Batch*o.Window), make([]int32, o.Batch*o.Window)
	var starts []int
	for len(starts) < n {
		if err := b.Next(in, out); err != nil {
			t.Fatal(err)
		}
		for r := range o.Batch {
			s := in[r*o.Window]
			for i := range o.Window {
				if in[r*o.Window+i] != s+int32(i) || out[r*o.Window+i] != s+int32(i)+1 {
					t.Fatalf("row %d is not a window", r)
				}
			}
			starts = append(starts, int(s))
		}
	}
	return starts
}

func TestAnEpochDrawsEachWindowOnce(t *testing.T) {
	tokens := counting(t, 1000)
	for _, stride := range []int{0, 7, 8, 3, 40} {
		for _, shuffle := range []bool{false, true} {
			b := batches(t, tokens, BatchOptions{Batch: 1, Window: 7, Stride: stride, Shuffle: shuffle, Seed: 3})
			step := stride
			if step == 0 {
				step = 8
			}
			var want []int
			for s := 0; s+8 <= 1000; s += step {
				want = append(want, s)
			}
			if b.Len() != len(want) {
				t.Fatalf("stride %d: %d windows, want %d", stride, b.Len(), len(want))
			}
			for epoch := range 3 {
				if b.Epoch() != uint64(epoch) {
					t.Fatalf("epoch %d, want %d", b.Epoch(), epoch)
				}
				got := draw(t, b, len(want))
				if sorted := slices.Sorted(slices.Values(got)); !slices.Equal(sorted, want) {
					t.Fatalf("stride %d: an epoch drew %v", stride, sorted)
				}
				if slices.Equal(got, want) == shuffle {
					t.Fatalf("stride %d, shuffle %v: order %v", stride, shuffle, got)
				}
			}
		}
	}
}

func TestSeekGivesTheSameBatches(t *testing.T) {
	tokens := counting(t, 5000)
	o := BatchOptions{Batch: 3, Window: 16, Shuffle: true, Seed: 9}
	all := draw(t, batches(t, tokens, o), 900) // three epochs and more
	for _, cursor := range []int{0, 1, 17, 290, 293, 294, 295, 600, 897} {
		b := batches(t, tokens, o)
		b.Seek(700)
		draw(t, b, 3)
		b.Seek(uint64(cursor))
		if got := draw(t, b, 3); !slices.Equal(got, all[cursor:cursor+3]) {
			t.Errorf("at cursor %d: %v, want %v", cursor, got, all[cursor:cursor+3])
		}
		if b.Cursor() != uint64(cursor+3) {
			t.Errorf("cursor %d, want %d", b.Cursor(), cursor+3)
		}
	}
	o.Batch = 5
	if got := draw(t, batches(t, tokens, o), 900); !slices.Equal(got, all[:900]) {
		t.Error("the order depends on the batch size")
	}
	o.Seed = 10
	if got := draw(t, batches(t, tokens, o), 100); slices.Equal(got, all[:100]) {
		t.Error("the order does not depend on the seed")
	}
}

func TestPermutationIsOneAndLooksRandom(t *testing.T) {
	for _, n := range []uint64{1, 2, 3, 10, 16, 255, 256, 257, 1000, 4096, 65537} {
		p := newPermutation(n, 1, 2)
		seen := make([]bool, n)
		for i := range n {
			v := p.at(i)
			if v >= n || seen[v] {
				t.Fatalf("n %d: %d comes to %d again", n, i, v)
			}
			seen[v] = true
		}
	}
	// Where each of 8 numbers lands over seeds and epochs is uniform: chi
	// square with 49 degrees of freedom is below 100 but once in 20,000.
	const n, trials = 8, 4000
	var count [n][n]float64
	for s := range uint64(trials) {
		p := newPermutation(n, s/10, s%10)
		for i := range uint64(n) {
			count[i][p.at(i)]++
		}
	}
	chi := 0.0
	for _, row := range count {
		for _, c := range row {
			chi += (c - trials/n) * (c - trials/n) / (trials / n)
		}
	}
	if chi > 100 {
		t.Errorf("chi square %.1f", chi)
	}
	// Neighbors end up far apart: the mean distance of a random order is n/3.
	const big = 10000
	p, sum := newPermutation(big, 5, 0), 0.0
	for i := range uint64(big - 1) {
		sum += math.Abs(float64(p.at(i)) - float64(p.at(i+1)))
	}
	if mean := sum / (big - 1); mean < 0.31*big || mean > 0.36*big {
		t.Errorf("mean distance %.0f", mean)
	}
}

// documents returns tokens of documents of random lengths up to longest, the
// end-of-text id after each.
func documents(t testing.TB, r *rand.Rand, total, longest int) (*Tokens, []uint16) {
	t.Helper()
	var ids []uint16
	for len(ids) < total {
		for range 1 + r.IntN(longest) {
			ids = append(ids, uint16(r.IntN(256)))
		}
		ids = append(ids, 299)
	}
	tokens, err := NewTokens(ids, "gpt2:300")
	if err != nil {
		t.Fatal(err)
	}
	return tokens, ids
}

func TestAlignedWindowsStartAtStoriesAndLoseNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, longest := range []int{3, 15, 16, 17, 40, 200, 3, 4, 5, 6} {
		tokens, ids := documents(t, r, 3000, longest)
		for _, stride := range []int{0, 16, 5} {
			b := batches(t, tokens, BatchOptions{Batch: 1, Window: 16, Stride: stride, AlignStories: true})
			step := b.stride
			covered := 0
			for i, s := range b.starts {
				end := int(s) + min(step, 17)
				atStory := s == 0 || ids[s-1] == 299
				if !atStory && (s != b.starts[i-1]+int64(step) || slices.Contains(ids[b.starts[i-1]:s], 299)) {
					t.Fatalf("longest %d: window %d starts inside a story that it could have begun", longest, i)
				}
				if step <= 17 && int(s) > covered {
					t.Fatalf("longest %d: tokens %d to %d are in no window", longest, covered, s)
				}
				covered = end
			}
			if want := alignedStarts(ids, 16, step); !slices.Equal(b.starts, want) {
				t.Fatalf("longest %d, stride %d: %d windows, want %d", longest, step, len(b.starts), len(want))
			}
			last := int(b.starts[len(b.starts)-1])
			if last+17 > len(ids) || len(ids)-last-17 > step {
				t.Fatalf("longest %d: the last window starts at %d of %d", longest, last, len(ids))
			}
		}
	}
}

func TestAlignedWindowsReachTheLastToken(t *testing.T) {
	_, ids := documents(t, rand.New(rand.NewPCG(8, 8)), 300, 9)
	for n := 17; n < 200; n++ {
		tokens, err := NewTokens(ids[:n], "gpt2:300")
		if err != nil {
			t.Fatal(err)
		}
		b := batches(t, tokens, BatchOptions{Batch: 1, Window: 16, AlignStories: true})
		want := alignedStarts(ids[:n], 16, 17)
		if !slices.Equal(b.starts, want) {
			t.Fatalf("%d tokens: starts %v, want %v", n, b.starts, want)
		}
	}
}

// alignedStarts follows the words of BatchOptions.AlignStories.
func alignedStarts(ids []uint16, window, stride int) []int64 {
	starts := []int64{0}
	for s := 0; ; {
		next := s + stride
		for next > s && next <= len(ids) && ids[next-1] != 299 {
			next--
		}
		if next == s {
			next = s + stride
		}
		if s = next; s+window+1 > len(ids) {
			return starts
		}
		starts = append(starts, int64(s))
	}
}

func TestEvaluationReadsWindowsInOrder(t *testing.T) {
	tokens := counting(t, 100)
	e, err := tokens.EvalWindows(EvalOptions{Batch: 4, Window: 9, Limit: 7})
	if err != nil {
		t.Fatal(err)
	}
	if e.Len() != 7 || e.Targets() != 63 {
		t.Fatalf("%d windows, %d targets", e.Len(), e.Targets())
	}
	in, out := make([]int32, 36), make([]int32, 36)
	for range 2 {
		var rows []int
		var bytes int64
		for {
			n, err := e.Next(in, out)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			for r := range n {
				if want := int32(10 * (4*len(rows) + r)); in[9*r] != want || out[9*r+8] != want+9 {
					t.Fatalf("row %d starts at %d, want %d", r, in[9*r], want)
				}
			}
			for _, v := range in[9*n:] {
				if v != 0 {
					t.Fatal("rows that were not filled are not zero")
				}
			}
			bytes += int64(tokens.Tokenizer().BytesOf(out[:9*n]))
			rows = append(rows, n)
		}
		if !slices.Equal(rows, []int{4, 3}) {
			t.Fatalf("rows %v", rows)
		}
		if got, err := e.TargetBytes(); err != nil || got != bytes || bytes == 0 {
			t.Fatalf("bytes %d, %v, want %d", got, err, bytes)
		}
		e.Rewind()
	}
	if e, err = tokens.EvalWindows(EvalOptions{Batch: 4, Window: 9}); err != nil || e.Len() != 10 {
		t.Fatalf("without a limit: %v, %v", e, err)
	}
}

func TestBatchesRefuseWhatCannotBe(t *testing.T) {
	tokens := counting(t, 17)
	for _, c := range []struct {
		o    BatchOptions
		want error
	}{
		{BatchOptions{Batch: 0, Window: 4}, ErrOption},
		{BatchOptions{Batch: 1, Window: 0}, ErrOption},
		{BatchOptions{Batch: 1, Window: math.MaxInt}, ErrOption},
		{BatchOptions{Batch: math.MaxInt, Window: 4}, ErrOption},
		{BatchOptions{Batch: 1, Window: 4, Stride: -1}, ErrOption},
		{BatchOptions{Batch: 1, Window: 17}, ErrTooShort},
		{BatchOptions{Batch: 1, Window: 17, AlignStories: true}, ErrTooShort},
	} {
		if _, err := tokens.Batches(c.o); !errors.Is(err, c.want) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%+v: error %v, want %v", c.o, err, c.want)
		}
	}
	b := batches(t, tokens, BatchOptions{Batch: 1, Window: 16, AlignStories: true, Shuffle: true})
	if b.Len() != 1 {
		t.Errorf("%d windows, want 1", b.Len())
	}
	if err := b.Next(make([]int32, 16), make([]int32, 15)); !errors.Is(err, ErrOption) {
		t.Errorf("short slice: %v", err)
	}
}

func TestDrawingBatchesAllocatesNothing(t *testing.T) {
	tokens, ids := documents(t, rand.New(rand.NewPCG(2, 2)), 4000, 50)
	mapped, err := OpenTokens(withManifest(t, u16(ids...), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer mapped.Close()
	in, out := make([]int32, 8*64), make([]int32, 8*64)
	for name, source := range map[string]*Tokens{"memory": tokens, "mapped": mapped} {
		b := batches(t, source, BatchOptions{Batch: 8, Window: 64, Shuffle: true, AlignStories: true})
		e, err := source.EvalWindows(EvalOptions{Batch: 8, Window: 64})
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(200, func() {
			if err := b.Next(in, out); err != nil {
				t.Fatal(err)
			}
			e.Rewind()
			if _, err := e.Next(in, out); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a batch", name, n)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	_, ids := documents(b, rand.New(rand.NewPCG(2, 2)), 1<<20, 300)
	tokens, err := OpenTokens(withManifest(b, u16(ids...), nil))
	if err != nil {
		b.Fatal(err)
	}
	defer tokens.Close()
	next := batches(b, tokens, BatchOptions{Batch: 8, Window: 256, Shuffle: true})
	in, out := make([]int32, 8*256), make([]int32, 8*256)
	b.ReportAllocs()
	for b.Loop() {
		if err := next.Next(in, out); err != nil {
			b.Fatal(err)
		}
	}
}
