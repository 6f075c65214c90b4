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
