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
	codes, scales, err := ggml.Decode(ggml.Q2_0, blocks, m, k, 64)
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
	again, err := ggml.Encode(ggml.Q2_0, codes, scales)
	if err != nil || !bytes.Equal(again, blocks) {
		t.Fatalf("encoded again, the blocks differ (%v)", err)
	}
}

// TestTQ2_0MatchesGgufPy decodes blocks that gguf-py quantized, to the values
// that it dequantized them to.
func TestTQ2_0MatchesGgufPy(t *testing.T) {
	f, err := Open(ggmlFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := f.ReadTensor("tq2_0.values")
	if err != nil {
		t.Fatal(err)
	}
	codes, scales, err := f.ReadCodes("tq2_0", 256)
	if err != nil {
		t.Fatal(err)
	}
	var seen [4]int
	for i, w := range want.F32() {
		c := codes.Data[i/4] >> (i % 4 * 2) & 3
		seen[c]++
		if got := float32(int(c)-1) * scales.F32()[i/256]; got != w {
			t.Fatalf("weight %d is %v, gguf-py says %v", i, got, w)
		}
	}
	if seen[0] == 0 || seen[1] == 0 || seen[2] == 0 {
		t.Fatalf("the test data has not every level: %v", seen)
	}
	raw, err := f.ReadRaw("tq2_0")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ggml.Encode(ggml.TQ2_0, codes, scales); err != nil || !bytes.Equal(again, raw) {
		t.Fatalf("encoded again, the blocks differ (%v)", err)
	}
}
