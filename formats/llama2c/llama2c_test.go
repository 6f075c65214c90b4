package llama2c

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/framework/tensor"
)

var small = Config{Dim: 8, Hidden: 12, Layers: 2, Heads: 4, KVHeads: 2, Vocab: 5, SeqLen: 6, Shared: true}

// kinds are the tensors in the order of testdata/model.py, from 1 on.
var kinds = []struct {
	name  string
	shape tensor.Shape
}{
	{"token_embd", tensor.Shape{5, 8}},
	{"attn_norm", tensor.Shape{8}},
	{"attn_q", tensor.Shape{8, 8}},
	{"attn_k", tensor.Shape{4, 8}},
	{"attn_v", tensor.Shape{4, 8}},
	{"attn_output", tensor.Shape{8, 8}},
	{"ffn_norm", tensor.Shape{8}},
	{"ffn_gate", tensor.Shape{12, 8}},
	{"ffn_down", tensor.Shape{8, 12}},
	{"ffn_up", tensor.Shape{12, 8}},
	{"output_norm", tensor.Shape{8}},
	{"output", tensor.Shape{5, 8}},
}

func golden(t *testing.T, name string) *File {
	t.Helper()
	f, err := Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestTensorsLieWhereRunReadsThem(t *testing.T) {
	for name, shared := range map[string]bool{"shared.bin": true, "own.bin": false} {
		f := golden(t, name)
		want := small
		want.Shared = shared
		if f.Config != want {
			t.Fatalf("%s: %+v, want %+v", name, f.Config, want)
		}
		seen := 0
		for k, kind := range kinds {
			if kind.name == "output" && shared {
				continue
			}
			layers := []string{kind.name + ".weight"}
			if strings.HasPrefix(kind.name, "attn") || strings.HasPrefix(kind.name, "ffn") {
				layers = []string{"blk.0." + layers[0], "blk.1." + layers[0]}
			}
			for l, full := range layers {
				seen++
				x, err := f.Tensor(full)
				if err != nil {
					t.Fatal(err)
				}
				if !x.Shape.Equal(kind.shape) {
					t.Errorf("%s is %v, want %v", full, x.Type, kind.shape)
				}
				for i, v := range x.F32() {
					if v != float32(100*(k+1)+l)+float32(i)/1024 {
						t.Fatalf("%s %s[%d] is %v", name, full, i, v)
					}
				}
			}
		}
		if len(f.Names()) != seen {
			t.Errorf("%s: %d names, want %d", name, len(f.Names()), seen)
		}
		for _, n := range f.Names() {
			if _, err := f.Tensor(n); err != nil {
				t.Error(err)
			}
		}
		if _, err := f.Tensor("blk.2.attn_q.weight"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
}

func TestNamesGoLayerByLayer(t *testing.T) {
	c := small
	c.Shared = false
	got := strings.Join(c.Names(), " ")
	for _, part := range []string{
		"token_embd.weight blk.0.attn_norm.weight blk.0.attn_q.weight",
		"blk.0.ffn_up.weight blk.1.attn_norm.weight",
		"blk.1.ffn_up.weight output_norm.weight output.weight",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is not in %q", part, got)
		}
	}
}

// The golden files come from numpy, whose sines may differ in the last bit.
func TestAModelIsWrittenAsItWasRead(t *testing.T) {
	for _, name := range []string{"shared.bin", "own.bin"} {
		f := golden(t, name)
		path := filepath.Join(t.TempDir(), "m.bin")
		if err := Write(path, f.Config, f.Tensor); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) || !bytes.Equal(got[:headerBytes], want[:headerBytes]) {
			t.Fatalf("%d bytes, want %d", len(got), len(want))
		}
		for i := headerBytes; i < len(got); i += 4 {
			g := math.Float32frombits(binary.LittleEndian.Uint32(got[i:]))
			w := math.Float32frombits(binary.LittleEndian.Uint32(want[i:]))
			if math.Abs(float64(g-w)) > 1e-6 {
				t.Fatalf("%s: %v at byte %d, want %v", name, g, i, w)
			}
		}
	}
}

func TestWriteRefusesOtherTensors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.bin")
	wrong := func(string) (*tensor.Tensor, error) { return tensor.FromF32([]float32{1}, 1), nil }
	if err := Write(path, small, wrong); !errors.Is(err, ErrFormat) {
		t.Errorf("shape: %v", err)
	}
	gone := errors.New("gone")
	if err := Write(path, small, func(string) (*tensor.Tensor, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Errorf("source: %v", err)
	}
	if err := Write(path, Config{}, wrong); !errors.Is(err, ErrFormat) {
		t.Errorf("config: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}

func header(n ...int32) []byte {
	var b []byte
	for _, v := range n {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return b
}

func TestReadRefusesHostileFiles(t *testing.T) {
	sound, err := os.ReadFile("testdata/own.bin")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"empty":         {nil, "too few"},
		"half a header": {sound[:20], "too few"},
		"version 1":     {append(header(0x616b3432, 1), make([]byte, 248)...), "version 1"},
		"no width":      {header(0, 12, 2, 4, 2, 5, 6), "dim is 0"},
		"negative":      {header(8, -12, 2, 4, 2, 5, 6), "hidden_dim"},
		"layers":        {header(8, 12, 1<<30, 4, 2, 5, 6), "n_layers"},
		"all large":     {header(1<<20, 1<<22, 1<<16, 1<<16, 1<<16, 1<<24, 1<<24), "takes"},
		"largest":       {header(math.MaxInt32, 12, 2, 4, 2, 5, 6), "dim"},
		"least vocab":   {header(8, 12, 2, 4, 2, math.MinInt32, 6), "vocab_size"},
		"heads":         {header(8, 12, 2, 3, 2, 5, 6), "no multiple"},
		"key heads":     {header(8, 12, 2, 4, 3, 5, 6), "no multiple"},
		"odd heads":     {header(8, 12, 2, 8, 2, 5, 6), "even"},
		"one byte less": {sound[:len(sound)-1], fmt.Sprintf("takes %d bytes, the file has %d", len(sound), len(sound)-1)},
		"one byte more": {append(bytes.Clone(sound), 0), fmt.Sprintf("the file has %d", len(sound)+1)},
	} {
		_, err := Read(bytes.NewReader(c.data), int64(len(c.data)))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v, want something with %q and a hint", name, err, c.says)
		}
	}
	f, err := Read(bytes.NewReader(sound[:100]), int64(len(sound))) // it shrinks later
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Tensor("output.weight"); !errors.Is(err, ErrFormat) {
		t.Errorf("shrunk: %v", err)
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrFormat) {
		t.Errorf("directory: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"shared.bin", "own.bin"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		n := 0
		for _, name := range m.Names() {
			x, err := m.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			n += len(x.Data)
		}
		if tables := 4 * m.SeqLen * m.headSize(); n+tables+headerBytes != len(data) {
			t.Fatalf("%d bytes of tensors in %d", n, len(data))
		}
	})
}

func TestTokenizerOfStories260K(t *testing.T) {
	v, err := ReadTokenizer("testdata/tok512.bin", 512)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[int]struct {
		text  string
		kind  int32
		score float32
	}{
		0: {"<unk>", 2, 0}, 1: {"<s>", 3, 0}, 2: {"</s>", 3, 0}, 3: {"<0x00>", 6, 0}, 258: {"<0xFF>", 6, 0},
		259: {"\u2581t", 1, 0}, 260: {"he", 1, -1}, 261: {"\u2581a", 1, -2}, 410: {"\u2581", 1, -151}, 411: {"e", 1, -152}, 510: {"~", 1, -251},
	} {
		if v.Tokens[id] != want.text || v.Types[id] != want.kind || v.Scores[id] != want.score {
			t.Errorf("token %d is %q, type %d, score %v; want %v", id, v.Tokens[id], v.Types[id], v.Scores[id], want)
		}
	}
	if len(v.Tokens) != 512 || v.BOS != 1 || v.EOS != 2 || v.UNK != 0 || v.PAD != -1 || !v.AddBOS || v.AddEOS || !v.AddSpacePrefix || v.Model != "llama" {
		t.Errorf("%d tokens, %+v", len(v.Tokens), *v)
	}
	data, err := os.ReadFile("testdata/tok512.bin")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tokenizer.bin")
	if err := WriteTokenizer(path, v); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("written otherwise: %v", err)
	}
}

func TestTokenizerRefusesHostileFiles(t *testing.T) {
	sound, err := os.ReadFile("testdata/tok512.bin")
	if err != nil {
		t.Fatal(err)
	}
	with := func(at int, bytes ...byte) []byte {
		b := append([]byte(nil), sound...)
		copy(b[at:], bytes)
		return b
	}
	for name, c := range map[string]struct {
		data  []byte
		vocab int
		says  string
	}{
		"empty":           {nil, 512, "0 bytes"},
		"cut":             {sound[:len(sound)-1], 512, "token 511"},
		"cut in a head":   {sound[:6000], 512, "token"},
		"too small":       {sound, 511, "after token 510"},
		"too large":       {sound, 513, "before token 512"},
		"vocab zero":      {sound, 0, "0 tokens"},
		"vocab huge":      {sound, 1 << 40, "tokens"},
		"vocab negative":  {sound, -1, "tokens"},
		"length negative": {with(8, 0xff, 0xff, 0xff, 0xff), 512, "token 0"},
		"length long":     {with(8, 9), 512, "token 0: 9 bytes"},
		"no text":         {with(8, 0, 0, 0, 0), 512, "empty"},
		"not UTF-8":       {with(12, 0xff), 512, "UTF-8"},
		"NaN":             {with(4, 0, 0, 0xc0, 0x7f), 512, "no number"},
		"no byte token":   {with(bytes.Index(sound, []byte("<0x00>")), '{'), 512, "not the byte <0x00>"},
	} {
		_, err := parseTokenizer(c.data, c.vocab)
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want something with %q", name, err, c.says)
		}
	}
	if _, err := ReadTokenizer(t.TempDir(), 512); !errors.Is(err, ErrFormat) {
		t.Errorf("directory: %v", err)
	}
	if _, err := ReadTokenizer(filepath.Join(t.TempDir(), "none"), 512); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestWriteTokenizerRefusesOtherIds(t *testing.T) {
	for name, spoil := range map[string]int{"byte": 5, "space": 300, "type": 301, "model": 0} {
		v, err := ReadTokenizer("testdata/tok512.bin", 512)
		if err != nil {
			t.Fatal(err)
		}
		switch name {
		case "byte", "space":
			v.Tokens[spoil] = "a b"
		case "type":
			v.Types[spoil] = 4
		case "model":
			v.Model = "gpt2"
		}
		if _, err := appendTokenizer(v); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzTokenizer(f *testing.F) {
	data, err := os.ReadFile("testdata/tok512.bin")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, 512)
	f.Add(data[:3000], 300)
	f.Fuzz(func(t *testing.T, data []byte, vocab int) {
		v, err := parseTokenizer(data, vocab)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again, err := appendTokenizer(v)
		if err != nil {
			return // a text that only this file has, such as "\n\n<s>"
		}
		w, err := parseTokenizer(again, vocab)
		if err != nil || cmp.Diff(v, w) != "" {
			t.Fatalf("%v\n%s", err, cmp.Diff(v, w))
		}
	})
}
