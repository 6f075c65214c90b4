package arena

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cockroachdb/errors"
)

// open makes a small arena.
func open(t testing.TB, size uint64) *Arena {
	t.Helper()
	a, err := New(size)
	if errors.Is(err, ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func TestBothSidesSeeTheSameBytes(t *testing.T) {
	a := open(t, 1<<20)
	b, err := Inherit(a.File().Fd(), a.Size())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Nonce(), b.Nonce()) || bytes.Equal(a.Nonce(), make([]byte, NonceLen)) {
		t.Fatalf("nonces %x and %x", a.Nonce(), b.Nonce())
	}
	s, err := a.Alloc(100)
	if err != nil {
		t.Fatal(err)
	}
	here, err := a.Bytes(s)
	if err != nil {
		t.Fatal(err)
	}
	there, err := b.Bytes(s)
	if err != nil {
		t.Fatal(err)
	}
	copy(here, "to the plugin")
	if !bytes.HasPrefix(there, []byte("to the plugin")) {
		t.Errorf("the other side reads %q", there[:13])
	}
	copy(there, "and back")
	if !bytes.HasPrefix(here, []byte("and back")) {
		t.Errorf("this side reads %q", here[:8])
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheSizeIsSealed(t *testing.T) {
	a := open(t, 1<<20)
	for _, n := range []int64{0, 4096, 2 << 20} {
		if err := a.File().Truncate(n); err == nil {
			t.Errorf("the size could be set to %d", n)
		}
	}
}

func TestWhatIsNoArenaIsNotInherited(t *testing.T) {
	a := open(t, 1<<20)
	plain, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	if err := plain.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		fd   uintptr
		size uint64
	}{
		"a plain file": {plain.Fd(), 1 << 20}, "no file": {math.MaxInt32, 1 << 20}, "too large": {a.File().Fd(), 2 << 20},
		"too small": {a.File().Fd(), 1 << 19}, "empty": {a.File().Fd(), 0}, "beyond int": {a.File().Fd(), math.MaxUint64},
	} {
		if _, err := Inherit(c.fd, c.size); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: error %v", what, err)
		}
	}
}

func TestSpansOutsideAreRefused(t *testing.T) {
	const size = 1 << 20
	a := open(t, size)
	for _, s := range []Span{
		{0, 64},
		{4032, 64},
		{4097, 8},
		{size, 1},
		{size - 64, 65},
		{size + 64, 0},
		{4096, size},
		{4096, math.MaxUint64},
		{math.MaxUint64 - 63, 64},
		{math.MaxUint64 - 63, 4096},
		{1 << 63, 1 << 63},
	} {
		if b, err := a.Bytes(s); !errors.Is(err, ErrRange) {
			t.Errorf("%v: %d bytes, error %v", s, len(b), err)
		}
	}
	for _, s := range []Span{{4096, 0}, {4096, size - 4096}, {size - 64, 64}, {size, 0}} {
		if b, err := a.Bytes(s); err != nil || uint64(len(b)) != s.Length || uint64(cap(b)) != s.Length {
			t.Errorf("%v: %d bytes of %d, error %v", s, len(b), cap(b), err)
		}
	}
}

// What is handed out never overlaps, and all of it can be had again.
func TestSpansAreApartAndComeBack(t *testing.T) {
	const size = 1 << 20
	a := open(t, size)
	r := rand.New(rand.NewPCG(1, 2))
	owner := make([]int, size/Align)
	held := map[int]Span{}
	for i := 1; i < 5000; i++ {
		if len(held) > 0 && r.IntN(2) == 0 {
			for k, s := range held {
				for j := s.Offset / Align; j < s.end()/Align; j++ {
					if owner[j] != k {
						t.Fatalf("span %d lost byte %d to %d", k, j*Align, owner[j])
					}
					owner[j] = 0
				}
				a.Free(s)
				delete(held, k)
				break
			}
			continue
		}
		n := uint64(r.IntN(size / 16))
		s, err := a.Alloc(n)
		if errors.Is(err, ErrFull) {
			continue
		} else if err != nil || s.Length < n || s.Offset%Align != 0 || s.Offset < header || s.end() > size {
			t.Fatalf("%d bytes: %v, error %v", n, s, err)
		}
		for j := s.Offset / Align; j < s.end()/Align; j++ {
			if owner[j] != 0 {
				t.Fatalf("byte %d belongs to %d and %d", j*Align, owner[j], i)
			}
			owner[j] = i
		}
		held[i] = s
	}
	for _, s := range held {
		a.Free(s)
	}
	if s, err := a.Alloc(size - header); err != nil {
		t.Errorf("not all came back: %v", err)
	} else if _, err := a.Alloc(1); !errors.Is(err, ErrFull) {
		t.Errorf("one byte more: error %v", err)
	} else {
		a.Free(s)
	}
	if _, err := a.Alloc(math.MaxUint64); !errors.Is(err, ErrFull) {
		t.Errorf("too large: error %v", err)
	}
}

func TestMemoryOutlivesCloseWhileItIsUsed(t *testing.T) {
	a := open(t, 1<<20)
	s, err := a.Alloc(64)
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.Bytes(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b[0] = 1 // a fault if it were gone
	if _, err := a.Alloc(1); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v", err)
	}
	a.Free(s)
	if a.data != nil {
		t.Error("the memory is still there")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestPagesFarOutGoBack(t *testing.T) {
	a := open(t, 1<<30)
	low, err := a.Alloc(warm - header)
	if err != nil {
		t.Fatal(err)
	}
	high, err := a.Alloc(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.Bytes(high)
	if err != nil {
		t.Fatal(err)
	}
	b[0], b[len(b)-1] = 7, 7
	a.Free(high)
	if b[0] != 0 || b[len(b)-1] != 0 { // a page that went back reads as zeros
		t.Error("the pages are still there")
	}
	a.Free(low)
}
