package rng

import (
	"math"
	"testing"
)

// The known answers are those of the Random123 distribution (kat_vectors,
// philox4x32 with 10 rounds).
func TestBlockMatchesKnownAnswers(t *testing.T) {
	const f = 0xffffffff
	for _, c := range []struct {
		key  Key
		ctr  [4]uint32
		want [4]uint32
	}{
		{Key{}, [4]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{Key{f, f}, [4]uint32{f, f, f, f}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{Key{0xa4093822, 0x299f31d0}, [4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := Block(c.key, c.ctr); got != c.want {
			t.Errorf("Block(%x, %x) = %x, want %x", c.key, c.ctr, got, c.want)
		}
	}
}

func TestNormalHasTheMomentsOfANormal(t *testing.T) {
	const n = 1 << 18
	k := NewKey(1, "w")
	var s1, s2, s3, s4 float64
	for i := range uint64(n) {
		v := k.Normal(i)
		s1, s2, s3, s4 = s1+v, s2+v*v, s3+v*v*v, s4+v*v*v*v
	}
	for _, m := range []struct {
		name            string
		got, want, stdv float64 // stdv: of one sample of the moment
	}{{"mean", s1, 0, 1}, {"variance", s2, 1, math.Sqrt2}, {"skew", s3, 0, math.Sqrt(15)}, {"kurtosis", s4, 3, math.Sqrt(96)}} {
		if d := math.Abs(m.got/n - m.want); d > 5*m.stdv/math.Sqrt(n) {
			t.Errorf("%s %v, want %v", m.name, m.got/n, m.want)
		}
	}
}

func TestStreamsOfDifferentNamesAreUncorrelated(t *testing.T) {
	const n = 1 << 16
	a, b := NewKey(1, "a"), NewKey(1, "b")
	var dot float64
	for i := range uint64(n) {
		dot += a.Normal(i) * b.Normal(i)
	}
	if math.Abs(dot)/math.Sqrt(n) > 5 {
		t.Errorf("correlation %v standard errors", dot/math.Sqrt(n))
	}
	if NewKey(1, "a") == NewKey(2, "a") {
		t.Error("seeds 1 and 2 give the same key")
	}
}

func TestUint32WalksTheBlocks(t *testing.T) {
	k := NewKey(3, "x")
	for i := range uint64(16) {
		want := Block(k, [4]uint32{uint32(i / 4)})[i%4]
		if got := k.Uint32(i); got != want {
			t.Errorf("word %d is %x, want %x", i, got, want)
		}
	}
}

func TestFillNormalIsTheStream(t *testing.T) {
	k := NewKey(5, "fill")
	for _, n := range []int{0, 1, 2, 7, 1<<16 + 3, 1 << 18} {
		dst := make([]float32, n)
		k.FillNormal(dst, 1, 0.5)
		for i, v := range dst {
			if want := float32(1 + 0.5*k.Normal(uint64(i))); v != want {
				t.Fatalf("%d elements: element %d is %v, want %v", n, i, v, want)
			}
		}
	}
}
