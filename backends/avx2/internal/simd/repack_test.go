package simd

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestTernaryBlocksAreThoseOfTheReference(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for blocks := 1; blocks < 6; blocks++ {
		for off := range 3 {
			ldc, stride := 32*blocks, 64*maxSteps+64
			codes := make([]byte, off+RowBlock*ldc)
			for i := range codes {
				codes[i] = byte(r.Uint32())
			}
			got := bytes.Repeat([]byte{0xa5}, off+blocks*stride)
			want := bytes.Clone(got)
			ternaryBlocks(got[off:], stride, codes[off:], ldc, blocks)
			ternaryBlocksRef(want[off:], stride, codes[off:], ldc, blocks)
			if !bytes.Equal(got, want) {
				t.Fatalf("%d blocks, offset %d: differ", blocks, off)
			}
		}
	}
}

func TestBookLinesAreThoseOfTheReference(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 400 {
		bits, fours, off := 1<<r.IntN(4), 1+r.IntN(5), r.IntN(3)
		ldc := 16*fours + r.IntN(5)
		codes := make([]byte, off+15*ldc+16*fours)
		for i := range codes {
			codes[i] = []byte{byte(r.Uint32()), 0x80}[r.IntN(9)/8]
		}
		var nibbles [16]byte
		for i := range nibbles {
			nibbles[i] = byte(r.IntN(16))
		}
		got := bytes.Repeat([]byte{0xa5}, off+256*fours+32)
		want := bytes.Clone(got)
		bookLines(bits, got[off:], codes[off:], ldc, fours, &nibbles)
		bookLinesRef(bits, want[off:], codes[off:], ldc, fours, &nibbles)
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bits, %d fours, offset %d: differ", bits, fours, off)
		}
	}
}

// Whole row blocks take another way than single rows: a matrix that lacks rows has the same ones packed by the latter.
func TestCodebookRepacksWholeRowBlocksAsSingleRows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	for _, book := range codeBooks {
		for _, group := range []int{32, 64, 128, 384} {
			x := newBookMatrix(t, r, AVX2, 32, 384, group, book.bits, book.levels)
			rows := bytes.Repeat([]byte{0xa5}, len(x.packed))
			rowBytes := len(x.codes) / 32
			for row := range 32 {
				x.c.repackRow(rows[row/RowBlock*x.c.rowBlock+row%RowBlock*4:], x.codes[row*rowBytes:(row+1)*rowBytes], x.scales[row*x.c.groups:(row+1)*x.c.groups])
			}
			if !bytes.Equal(x.packed, rows) {
				t.Errorf("%s, groups of %d: differ", book.name, group)
			}
		}
	}
}

func BenchmarkRepackCodebook(b *testing.B) {
	for _, i := range []int{0, 3, 9, 18} {
		b.Run(codeBooks[i].name, func(b *testing.B) {
			x := newBookMatrix(b, rand.New(rand.NewPCG(3, 6)), AVX2, 768, 768, 128, codeBooks[i].bits, codeBooks[i].levels)
			b.SetBytes(int64(len(x.codes)))
			for b.Loop() {
				x.c.Repack(x.packed, x.codes, x.scales, 0, x.c.RowBlocks())
			}
		})
	}
}

func BenchmarkRepack(b *testing.B) {
	for _, group := range []int{64, 128, 256} {
		b.Run(map[int]string{64: "group64", 128: "group128", 256: "group256"}[group], func(b *testing.B) {
			t, _ := NewTernary(2048, 2048, group)
			codes, scales, packed := make([]byte, t.M*t.K/4), make([]float32, t.M*t.groups), make([]byte, t.PackedBytes())
			b.SetBytes(int64(len(codes)))
			for b.Loop() {
				t.Repack(packed, codes, scales, 0, t.RowBlocks())
			}
		})
	}
}
