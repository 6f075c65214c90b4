package gguf

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
)

// TestQ2_0MatchesGgml decodes blocks that ggml quantized, to the values that
// ggml dequantized them to.
func TestQ2_0MatchesGgml(t *testing.T) {
	f, err := Open(ggmlFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blocks, err := f.ReadRaw("q2_0.blocks")
	if err != nil {
		t.Fatal(err)
	}
	want, err := f.ReadTensor("q2_0.values")
	if err != nil {
		t.Fatal(err)
	}
	m, k := want.Shape[0], want.Shape[1]
	codes, scales, err := ggml.DecodeQ2_0(blocks, m, k, 64)
	if err != nil {
		t.Fatal(err)
	}
	var seen [4]bool
	for i, w := range want.F32() {
		c := codes.Data[i/4] >> (i % 4 * 2) & 3
		seen[c] = true
		if got := float32(int(c)-1) * scales.F32()[i/64]; got != w {
			t.Fatalf("weight %d is %v, ggml says %v", i, got, w)
		}
	}
	if seen != [4]bool{true, true, true, true} {
		t.Fatalf("the test data has not every code: %v", seen)
	}
	if err := ggml.CheckTernary(codes); !errors.Is(err, ggml.ErrFormat) {
		t.Fatalf("code 3 passes as ternary: %v", err)
	}
	again, err := ggml.EncodeQ2_0(codes, scales)
	if err != nil || !bytes.Equal(again, blocks) {
		t.Fatalf("encoded again, the blocks differ (%v)", err)
	}
}
