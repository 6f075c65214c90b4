package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework/tensor"
)

// small are sizes of a model that is written at once.
var small = sizes{layers: 2, dim: 256, ffn: 512, heads: 4, kvHeads: 2, vocab: 1500, context: 64, theta: 10000, eps: 1e-5}

func written(t *testing.T, o options) (string, *gguf.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "big.gguf")
	if err := write(path, o); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return path, f
}

func TestFilesHaveTheTensorsOfTheirArchitecture(t *testing.T) {
	for arch, want := range map[string]int{"llama": 2 + 2*9, "bitnet": 2 + 2*11} {
		_, f := written(t, options{small, arch, ggml.TQ2_0, 1})
		if got := len(f.Tensors); got != want {
			t.Errorf("%s: %d tensors, wants %d", arch, got, want)
		}
		k, err := f.Tensor("blk.1.attn_k.weight")
		if err != nil || !k.Shape.Equal(tensor.Shape{128, 256}) || k.Type != ggml.TQ2_0 {
			t.Errorf("%s: keys are %+v, %v", arch, k, err)
		}
		_, err = f.Tensor("blk.1.ffn_sub_norm.weight")
		if found := err == nil; found != (arch == "bitnet") {
			t.Errorf("%s: sub-norm: %v", arch, err)
		}
	}
}

func TestWeightsAreTernaryAndKeepTheDeviation(t *testing.T) {
	_, packed := written(t, options{small, "llama", ggml.TQ2_0, 1})
	_, plain := written(t, options{small, "llama", ggml.F16, 1})
	const name = "blk.0.ffn_down.weight"
	codes, scales, err := packed.ReadCodes(name, ggml.PerTensor)
	if err != nil {
		t.Fatal(err)
	}
	x, err := plain.ReadTensor(name)
	if err != nil {
		t.Fatal(err)
	}
	var count [3]int
	var squares float64
	for i, h := range x.U16() {
		code := int(codes.Data[i/4] >> (i % 4 * 2) & 3)
		v := tensor.F16ToF32(h)
		if want := float32(code-1) * scales.F32()[0]; v != want {
			t.Fatalf("weight %d is %v as F16, %v as TQ2_0", i, v, want)
		}
		count[code]++
		squares += float64(v) * float64(v)
	}
	n := float64(x.Shape.Numel())
	for code, c := range count {
		if share := float64(c) / n; math.Abs(share-1./3) > 0.01 {
			t.Errorf("a share of %.3f of the weights is %d", share, code-1)
		}
	}
	if gain := squares / n * 512; math.Abs(gain-1) > 0.02 {
		t.Errorf("the variance grows by %v", gain)
	}
}

func TestTheSameSeedGivesTheSameFile(t *testing.T) {
	read := func(seed uint64) []byte {
		path, _ := written(t, options{small, "llama", ggml.Q2_0, seed})
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if a := read(1); !bytes.Equal(a, read(1)) || bytes.Equal(a, read(2)) {
		t.Error("files do not depend on the seed alone")
	}
}

func TestMergesMakeEveryTokenOnce(t *testing.T) {
	for _, n := range []int{minVocab, bitnet2B.vocab, maxVocab} {
		m := gguf.Metadata(vocabulary(n))
		tokens, err := m.Strings("tokenizer.ggml.tokens")
		if err != nil || len(tokens) != n {
			t.Fatalf("%d tokens, wants %d: %v", len(tokens), n, err)
		}
		merges, err := m.Strings("tokenizer.ggml.merges")
		if err != nil || len(merges) != n-256-specials {
			t.Fatalf("%d merges of %d tokens: %v", len(merges), n, err)
		}
		known := make(map[string]bool, n)
		for i, token := range tokens {
			if known[token] {
				t.Fatalf("token %q occurs twice", token)
			}
			if at := i - 256; at >= 0 && at < len(merges) {
				a, b, _ := strings.Cut(merges[at], " ")
				if a+b != token || !known[a] || !known[b] {
					t.Fatalf("merge %q does not make token %q of tokens before it", merges[at], token)
				}
			}
			known[token] = true
		}
	}
}

func TestImpossibleModelsAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.gguf")
	for _, args := range [][]string{
		{"--out", path, "--arch", "gpt2"},
		{"--out", path, "--layers", "0"},
		{"--out", path, "--vocab", "1000"},
		{"--out", path, "--type", "q9_0"},
		{"--layers", "1"},
	} {
		if err := run(args); !errors.Is(err, errOption) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was written")
	}
}
