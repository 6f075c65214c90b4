package ggml

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// The orders again, code by code. A place is a byte and the code's number in it:
// with two bits each, or the n-th digit of a number of base 3.

func placeQ2(w int) (at, n int)  { return 2 + w/4, w % 4 }
func placeTQ2(w int) (at, n int) { return w/128*32 + w%32, w / 32 % 4 }

func placeTQ1(w int) (at, n int) {
	switch {
	case w < 160:
		return w % 32, w / 32
	case w < 240:
		return 32 + (w-160)%16, (w - 160) / 16
	}
	return 48 + (w-240)%4, (w - 240) / 4
}

func bitsAt(b byte, n int) byte { return b >> (2 * n) & 3 }

// digit takes digit n of a fraction b/256 in base 3.
func digit(b byte, n int) byte {
	for range n {
		b *= 3
	}
	return byte(int(b) * 3 / 256)
}

func TestUnpackTakesEachCodeFromItsPlace(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for typ, c := range map[Type]struct {
		place func(int) (int, int)
		code  func(byte, int) byte
	}{Q2_0: {placeQ2, bitsAt}, TQ1_0: {placeTQ1, digit}, TQ2_0: {placeTQ2, bitsAt}} {
		as, _ := of(typ)
		block, got := make([]byte, as.bytes), make([]byte, as.block/4)
		for range 200 {
			for i := range block {
				block[i] = byte(r.Uint32())
			}
			as.unpack(got, block)
			for w := range as.block {
				at, n := c.place(w)
				if want := c.code(block[at], n); bitsAt(got[w/4], w%4) != want {
					t.Fatalf("%v: code %d is %d, not %d", typ, w, bitsAt(got[w/4], w%4), want)
				}
			}
		}
	}
}

func TestPackIsTheInverseOfUnpack(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, typ := range []Type{Q2_0, TQ1_0, TQ2_0} {
		as, _ := of(typ)
		codes, got := make([]byte, as.block/4), make([]byte, as.block/4)
		for range 200 {
			for i := range codes {
				codes[i] = byte(r.IntN(3) | r.IntN(3)<<2 | r.IntN(3)<<4 | r.IntN(3)<<6)
			}
			block := bytes.Repeat([]byte{0xa5}, as.bytes)
			as.pack(block, codes)
			if as.unpack(got, block); !bytes.Equal(got, codes) {
				t.Fatalf("%v: %x becomes %x", typ, codes, got)
			}
			if s := le.Uint16(block[as.scale:]); s != 0xa5a5 {
				t.Fatalf("%v: the scale is overwritten by %#x", typ, s)
			}
		}
	}
}

func TestSplitNibbles(t *testing.T) {
	src := []byte{0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0xff, 0x0f, 0xf0, 0x00, 0x12, 0x34, 0x56, 0x78}
	low, high := make([]byte, 8), make([]byte, 8)
	splitNibbles(low, high, src)
	for i, b := range src {
		if l, h := low[i/2]>>(i%2*4)&15, high[i/2]>>(i%2*4)&15; l != b&15 || h != b>>4 {
			t.Errorf("byte %d: %#x and %#x of %#x", i, l, h, b)
		}
	}
}

func TestCheckTernaryNamesTheFirstThree(t *testing.T) {
	for n := 4; n <= 100; n += 4 {
		for at := range n {
			codes, _ := random(1, n, 1, 1)
			codes.Data[at/4] |= 3 << (at % 4 * 2)
			codes.Data[n/4-1] |= 3 << 6
			if got := firstThree(codes.Data); got != at {
				t.Fatalf("code 3 at %d of %d is found at %d", at, n, got)
			}
		}
		codes, _ := random(1, n, 1, 1)
		if got := firstThree(codes.Data); got != -1 {
			t.Fatalf("a code 3 at %d of %x", got, codes.Data)
		}
	}
	three := &tensor.Tensor{Type: tensor.T(tensor.U2, 1, 4), Data: []byte{0x30}}
	if err := CheckTernary(three); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

func TestFirstMin8(t *testing.T) {
	for at := range 64 {
		codes := bytes.Repeat([]byte{0x81, 0x7f, 0, 1, 0xff, 0x40, 0x80 - 1, 0xc0}, 8)
		if got := firstMin8(codes); got != -1 {
			t.Fatalf("a -128 at %d of %x", got, codes)
		}
		codes[at], codes[63] = 0x80, 0x80
		if got := firstMin8(codes); got != at {
			t.Errorf("-128 at %d is found at %d", at, got)
		}
	}
}
