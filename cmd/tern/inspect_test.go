package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/formats/llama2c"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/modelfile"
)

// inspect runs tern inspect, without --diff, and returns what it prints.
func inspect(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: &lockedWriter{Writer: io.Discard}}
	a.plugins = newPluginHost(t.Context(), a)
	root := newRootCmd(a)
	root.SetArgs(append([]string{"inspect"}, args...))
	err := root.Execute()
	return out.String(), err
}

// mustHold checks that text has every part, in order.
func mustHold(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, p := range parts {
		_, after, ok := strings.Cut(rest, p)
		if !ok {
			t.Fatalf("no %q, or not in this order, in\n%s", p, text)
		}
		rest = after
	}
}

// f32s is a tensor of type F32.
func f32s(name string, v ...float32) gguf.TensorInfo {
	x := tensor.FromF32(v, len(v))
	return gguf.FromBytes(name, ggml.F32, x.Shape, x.Data)
}

func writeGGUF(t *testing.T, name string, meta []gguf.KV, tensors ...gguf.TensorInfo) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := gguf.WriteFile(path, meta, tensors); err != nil {
		t.Fatal(err)
	}
	return path
}

var otherArch = []gguf.KV{{Key: "general.architecture", Value: "mamba"}}

func TestInspectSaysWhyAModelCannotRun(t *testing.T) {
	for name, meta := range map[string][]gguf.KV{
		`architecture "mamba"`:              otherArch,
		`metadata key "general.architectur`: {{Key: "other.key", Value: true}},
		`metadata key "llama.embedding_len`: {{Key: "general.architecture", Value: "llama"}},
	} {
		path := writeGGUF(t, "m.gguf", meta, f32s("blk.0.x.weight", 1, 2))
		out, err := inspect(t, path)
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, out, "GGUF version 3", meta[0].Key, "blk.0.x.weight  F32   [2]    8", "\n\ntern cannot run it: "+name)
		if last := strings.TrimSuffix(out[strings.Index(out, "tern cannot"):], "\n"); strings.Contains(last, "\n") {
			t.Errorf("more than one line: %q", last)
		}
		if out, err = inspect(t, path, "--json"); err != nil {
			t.Fatal(err)
		}
		mustHold(t, out, `"model": null`, `"cannot_run": "`)
	}
	own := writeGGUF(t, "m.gguf", []gguf.KV{{Key: "general.architecture", Value: modelfile.Architecture}}, f32s("x", 1))
	out, err := inspect(t, own)
	if !errors.Is(err, gguf.ErrNotFound) {
		t.Errorf("a broken file of tern: %v", err)
	}
	mustHold(t, out, "general.architecture", "TENSOR")
}

func TestInspectShowsThePartOfEachTensor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	parts, err := gguf.WriteSplit(path, otherArch, []gguf.TensorInfo{f32s("first", 1, 2), f32s("second", 3), f32s("third", 4)}, 8)
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) < 2 {
		t.Fatalf("%d parts", len(parts))
	}
	out, err := inspect(t, parts[0])
	if err != nil {
		t.Fatal(err)
	}
	base := func(i int) string { return filepath.Base(parts[i]) }
	mustHold(t, out, "part "+parts[0], "part "+parts[len(parts)-1], "FILE", "first", base(0), "third", base(len(parts)-1), "3 tensors")
	if out, err = inspect(t, parts[0], "--json"); err != nil {
		t.Fatal(err)
	}
	mustHold(t, out, `"parts": [`, `"name": "third"`, `"file": "`+base(len(parts)-1))
}

func TestInspectShowsTheBeginningOfLongMetadata(t *testing.T) {
	long := make([]string, 5000)
	for i := range long {
		long[i] = strings.Repeat("x", 50)
	}
	meta := append([]gguf.KV{
		{Key: "words", Value: long},
		{Key: "pair", Value: []int32{1, -2}},
		{Key: "none", Value: []float32{}},
		{Key: "nested", Value: []any{[]uint8{1, 2}, []uint8{3}}},
		{Key: "bell", Value: "\x1b[31m\a"},
		{Key: "name\x1b", Value: uint64(math.MaxUint64)},
		{Key: "nan", Value: float32(math.NaN())},
		{Key: "inf", Value: []float64{math.Inf(-1), 2}},
	}, otherArch...)
	path := writeGGUF(t, "m.gguf", meta, f32s("x\x1b", 1))
	out, err := inspect(t, path)
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, out, `5,000 x string: "xxxx`, "...\n", "2 x i32: 1, -2\n", "0 x f32\n", "2 x array: 2 x u8: 1, 2, 1 x u8: 3\n",
		`"\x1b[31m\a"`, `"name\x1b"`, "18446744073709551615", "2 x f64: -Inf, 2\n", `"x\x1b"`)
	if len(out) > 2000 || strings.ContainsAny(out, "\x1b\a") {
		t.Errorf("%d bytes, or characters that a terminal obeys", len(out))
	}
	if out, err = inspect(t, path, "--json"); err != nil {
		t.Fatal(err)
	}
	var got struct{ Metadata []struct{ Value any } }
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if words, ok := got.Metadata[0].Value.([]any); !ok || len(words) != len(long) {
		t.Errorf("words: %d values", len(words))
	}
	if b, err := json.Marshal(got.Metadata[3].Value); err != nil || string(b) != "[[1,2],[3]]" {
		t.Errorf("nested: %s, %v", b, err)
	}
	if b, err := json.Marshal(got.Metadata[7].Value); err != nil || got.Metadata[6].Value != "NaN" || string(b) != `["-Inf",2]` {
		t.Errorf("not finite: %v, %s, %v", got.Metadata[6].Value, b, err)
	}
}

func TestInspectShowsLlama2C(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.bin")
	c := llama2c.Config{Dim: 8, Hidden: 12, Layers: 1, Heads: 2, KVHeads: 1, Vocab: 10, SeqLen: 16, Shared: true}
	kv := tensor.Shape{4, 8}
	shapes := map[string]tensor.Shape{
		"token_embd": {10, 8}, "blk.0.attn_norm": {8}, "blk.0.attn_q": {8, 8}, "blk.0.attn_k": kv, "blk.0.attn_v": kv, "blk.0.attn_output": {8, 8},
		"blk.0.ffn_norm": {8}, "blk.0.ffn_gate": {12, 8}, "blk.0.ffn_down": {8, 12}, "blk.0.ffn_up": {12, 8}, "output_norm": {8},
	}
	err := llama2c.Write(path, c, func(name string) (*tensor.Tensor, error) {
		return tensor.New(tensor.Type{DType: tensor.F32, Shape: shapes[strings.TrimSuffix(name, ".weight")]}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := inspect(t, path)
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, out, "m.bin: 1 layers, width 8, 2 heads (1 for keys)", "no tokenizer", "linear                  480           1,920  F32",
		"embedding                80             320  F32", "norm                     24              96  F32", "llama2.c model", "hidden_dim         12",
		"blk.0.ffn_down.weight", "[8 12]", "384", "11 tensors")
	if out, err = inspect(t, path, "--json"); err != nil {
		t.Fatal(err)
	}
	mustHold(t, out, `"format": "llama2c"`, `"Hidden": 12`, `"tokenizer": null`, `"file_bytes": 1920`)
}

func TestCategoriesGoByTheNamesOfTensors(t *testing.T) {
	for name, want := range map[string]string{
		"token_embd.weight": "embedding", "output.weight": "linear", "output_norm.weight": "norm", "blk.3.ffn_sub_norm.weight": "norm",
		"blk.3.attn_q.weight": "linear", "blk.3.attn_q.scale": "linear", "rope_freqs.weight": "other", "": "other", "blk": "other",
	} {
		if got := string(categoryOf(name)); got != want {
			t.Errorf("%q is of category %s, want %s", name, got, want)
		}
	}
}

func TestInspectMakesNoRoomForALongConfiguration(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), bytes.Repeat([]byte(" "), 2<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := inspect(t, dir); err == nil || !strings.Contains(err.Error(), "at most 1048576 are read") {
		t.Error(err)
	}
}
