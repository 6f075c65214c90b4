package huggingface

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/formats/safetensors"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/tokenizer"
)

var keep = flag.String("keep", "", "leave what is written in this directory, for testdata/hf.py check")

const plainConfig = `{"model_type":"llama",` + least + `}`

// put writes files into a new directory.
func put(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// weights is a safetensors file with a one-element tensor of each name.
func weights(t *testing.T, names ...string) string {
	t.Helper()
	var list []safetensors.Entry
	for i, n := range names {
		list = append(list, safetensors.Of(n, tensor.FromF32([]float32{float32(i)}, 1)))
	}
	var b bytes.Buffer
	if err := safetensors.Write(&b, nil, list); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPartsAndTheirIndex(t *testing.T) {
	parts := func(index string) map[string]string {
		return map[string]string{
			"config.json": plainConfig, "a.safetensors": weights(t, "x", "y"), "b.safetensors": weights(t, "z"),
			indexFile: `{"metadata":{"total_size":12},"weight_map":` + index + `}`,
		}
	}
	d, err := Open(put(t, parts(`{"x":"a.safetensors","y":"a.safetensors","z":"b.safetensors"}`)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if !slices.Equal(d.Names(), []string{"x", "y", "z"}) {
		t.Errorf("%q", d.Names())
	}
	if i, err := d.Info("z"); err != nil || i.File != "b.safetensors" || i.DType != "F32" {
		t.Errorf("%+v, %v", i, err)
	}
	if y, err := d.Tensor("y"); err != nil || y.F32()[0] != 1 {
		t.Errorf("%v, %v", y, err)
	}
	into := make([]byte, 4)
	if err := d.ReadInto("y", into); err != nil || !bytes.Equal(into, []byte{0, 0, 0x80, 0x3f}) {
		t.Errorf("y: % x, %v", into, err)
	}
	if err := d.ReadInto("y", into[:3]); !errors.Is(err, ErrUnsupported) {
		t.Errorf("y into three bytes: %v", err)
	}
	if err := d.ReadInto("w", into); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := d.Tensor("w"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for name, c := range map[string]struct{ index, says string }{
		"lacks one":    {`{"x":"a.safetensors","z":"b.safetensors"}`, `"y"`},
		"lacks a file": {`{"x":"a.safetensors","y":"a.safetensors","z":"c.safetensors"}`, "c.safetensors"},
		"wrong file":   {`{"x":"a.safetensors","y":"b.safetensors","z":"b.safetensors"}`, `"y"`},
		"one too many": {`{"x":"a.safetensors","y":"a.safetensors","z":"b.safetensors","w":"a.safetensors"}`, `"w"`},
		"above":        {`{"x":"../a.safetensors"}`, "../a"},
		"absolute":     {`{"x":"/a.safetensors"}`, "/a"},
		"below":        {`{"x":"s/a.safetensors"}`, "s/a"},
		"backslash":    {`{"x":"s\\a.safetensors"}`, "no name"},
		"hidden":       {`{"x":".safetensors"}`, "no name"},
		"other file":   {`{"x":"config.json"}`, "no name"},
		"empty name":   {`{"x":""}`, "no name"},
		"a number":     {`{"x":1}`, `"x"`},
		"twice":        {`{"x":"a.safetensors","x":"a.safetensors"}`, "twice"},
		"nothing":      {`{}`, "no tensor"},
		"no map":       {`[]`, "weight_map"},
	} {
		_, err := Open(put(t, parts(c.index)))
		if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want something with %q", name, err, c.says)
		}
	}
	twice := parts(`{"x":"a.safetensors","y":"a.safetensors","z":"b.safetensors"}`)
	twice["b.safetensors"] = weights(t, "y", "z")
	if _, err := Open(put(t, twice)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "both") {
		t.Error(err)
	}
}

func TestADirectoryThatIsNoModel(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  error
	}{
		"empty":        {nil, ErrNotFound},
		"no weights":   {map[string]string{"config.json": plainConfig}, ErrNotFound},
		"no config":    {map[string]string{oneFile: weights(t, "x")}, ErrNotFound},
		"cut weights":  {map[string]string{"config.json": plainConfig, oneFile: weights(t, "x")[:20]}, ErrFormat},
		"large config": {map[string]string{"config.json": strings.Repeat(" ", maxConfig) + plainConfig, oneFile: weights(t, "x")}, ErrFormat},
	} {
		if _, err := Open(put(t, c.files)); !errors.Is(err, c.want) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := put(t, map[string]string{oneFile: weights(t, "x")})
	if err := os.Mkdir(filepath.Join(dir, "config.json"), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrFormat) {
		t.Errorf("config.json a directory: %v", err)
	}
}

func TestVocabularyOfADirectory(t *testing.T) {
	model, bpe, spm := string(golden(t, "tok512.model")), string(golden(t, "bpe.json")), string(golden(t, "spm.json"))
	without := strings.Replace(spm, `"post_processor":{`, `"unread":{`, 1)
	type files = map[string]string
	for name, c := range map[string]struct {
		files    files
		size     int
		bos, eos int32
		addBOS   bool
		addEOS   bool
		last     string
	}{
		"model":          {files{"tokenizer.model": model}, 512, 7, 2, true, false, "<0xFF>"},
		"json":           {files{"tokenizer.json": spm}, 512, 1, 9, true, false, ""},
		"settings":       {files{"tokenizer.json": without, "tokenizer_config.json": `{"add_bos_token":false,"add_eos_token":true,"eos_token":{"content":"</s>"},"bos_token":"<s>"}`}, 512, 1, 2, false, true, ""},
		"post-processor": {files{"tokenizer.json": spm, "tokenizer_config.json": `{"add_bos_token":false,"bos_token":"he"}`}, 512, 1, 9, true, false, ""},
		"padded":         {files{"tokenizer.model": model}, 520, 7, 2, true, false, "[PAD519]"},
		"added":          {files{"tokenizer.model": model, "added_tokens.json": `{"<x>":513}`, "tokenizer_config.json": `{"added_tokens_decoder":{"512":{"content":"<end>","special":true}},"eos_token":"<end>","bos_token":"<s>"}`}, 514, 1, 512, true, false, "<x>"},
		"dropped":        {files{"tokenizer.model": model, "added_tokens.json": `{"<x>":512}`}, 512, 7, 2, true, false, ""},
		"passed over":    {files{"tokenizer.model": "IQ== 0\n", "tokenizer.json": bpe, "tokenizer_config.json": `{"eos_token":"<|end|>"}`}, 400, 386, 387, true, false, "[PAD399]"},
	} {
		cfg := &Config{VocabSize: c.size, BOS: 7, PAD: -1}
		if c.eos == 9 {
			cfg.EOS = []int32{9, 10}
		}
		v, err := ReadVocabulary(put(t, c.files), cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkSizes(t, v)
		if len(v.Tokens) != c.size || v.BOS != c.bos || v.EOS != c.eos || v.AddBOS != c.addBOS || v.AddEOS != c.addEOS {
			t.Errorf("%s: %d tokens, ids %d %d, %v %v", name, len(v.Tokens), v.BOS, v.EOS, v.AddBOS, v.AddEOS)
		}
		if c.last != "" && c.size > 512 && v.Tokens[c.size-1] != c.last {
			t.Errorf("%s: last token %q", name, v.Tokens[c.size-1])
		}
	}
	for name, c := range map[string]struct {
		files files
		want  error
	}{
		"nothing":    {files{}, ErrNotFound},
		"too large":  {files{"tokenizer.json": `{"model":{"vocab":{"a":600},"merges":[]},"pre_tokenizer":{"type":"ByteLevel"}}`}, ErrFormat},
		"damaged":    {files{"tokenizer.json": `{`}, ErrFormat},
		"Unigram":    {files{"tokenizer.model": string(spPiece(nil, "a", 0, 1))}, ErrUnsupported},
		"settings":   {files{"tokenizer.json": bpe, "tokenizer_config.json": `{"add_bos_token":"yes"}`}, ErrFormat},
		"decoder":    {files{"tokenizer.json": bpe, "tokenizer_config.json": `{"added_tokens_decoder":{"x":{}}}`}, ErrFormat},
		"added huge": {files{"tokenizer.model": model, "added_tokens.json": `{"<x>":1e9}`}, ErrFormat},
		"added -1":   {files{"tokenizer.model": model, "added_tokens.json": `{"<x>":-1}`}, ErrFormat},
	} {
		if _, err := ReadVocabulary(put(t, c.files), &Config{VocabSize: 512}); !errors.Is(err, c.want) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sample is a model with a tokenizer of a kind and a few tensors.
func sample(t *testing.T, kind string) (*Config, *tokenizer.Vocabulary, []safetensors.Entry) {
	t.Helper()
	dir := map[string]map[string]string{"bpe": {"tokenizer.json": string(golden(t, "bpe.json"))}, "spm": {"tokenizer.model": string(golden(t, "tok512.model"))}}[kind]
	c := parse(t, `{"model_type":"llama",`+least+`,"architectures":["LlamaForCausalLM"],"quantization_config":{"quant_method":"bitnet"}}`)
	c.VocabSize = map[string]int{"bpe": 389, "spm": 512}[kind]
	v, err := ReadVocabulary(put(t, dir), c)
	if err != nil {
		t.Fatal(err)
	}
	v.EOS = map[string]int32{"bpe": 387, "spm": 2}[kind]
	half := tensor.New(tensor.T(tensor.BF16, 2, 3))
	half.Data[1] = 0x3f
	return c, v, []safetensors.Entry{
		safetensors.Of("model.norm.weight", tensor.FromF32([]float32{1, 2, 3}, 3)),
		Packed("model.layers.0.mlp.up_proj.weight", packedOf(1, 2, 0b10100100, 0b00011000)),
		safetensors.Of("model.layers.0.mlp.up_proj.weight_scale", half),
	}
}

func TestADirectoryIsWrittenAsItIsRead(t *testing.T) {
	for kind, limit := range map[string]int64{"bpe": maxShard, "spm": 15} {
		c, v, tensors := sample(t, kind)
		dir := filepath.Join(t.TempDir(), kind)
		if *keep != "" {
			dir = filepath.Join(*keep, kind)
		}
		if err := write(dir, c, v, tensors, limit); err != nil {
			t.Fatal(err)
		}
		d, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, d.Config); diff != "" {
			t.Error(diff)
		}
		if n := map[string]int{"bpe": 1, "spm": 2}[kind]; len(d.files) != n {
			t.Errorf("%s: %d files", kind, len(d.files))
		}
		codes, err := d.Tensor("model.layers.0.mlp.up_proj.weight")
		if err != nil || codes.DType != tensor.I8 || codes.Data[0] != 0b10100100 {
			t.Errorf("%v, %v", codes, err)
		}
		if i, err := d.Info("model.layers.0.mlp.up_proj.weight"); err != nil || i.DType != "U8" {
			t.Errorf("%+v, %v", i, err)
		}
		if x, err := d.Tensor("model.layers.0.mlp.up_proj.weight_scale"); err != nil || x.DType != tensor.BF16 || x.Data[1] != 0x3f {
			t.Errorf("%v, %v", x, err)
		}
		w, err := d.Vocabulary()
		if err != nil {
			t.Fatal(err)
		}
		want := *v
		if kind == "spm" { // scores become places of merges, in the same order
			for _, r := range rows(t) {
				if got := byScores(w, index(w), r.Text); !slices.Equal(got, r.SPM) {
					t.Errorf("%q: %v, want %v", r.Text, got, r.SPM)
				}
			}
			want.Scores, w.Scores = nil, nil
		}
		if diff := cmp.Diff(&want, w); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := Write(dir, c, v, tensors); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "already") {
			t.Errorf("%s: over another model: %v", kind, err)
		}
	}
}

func TestBeginAndEndAreWritten(t *testing.T) {
	for _, kind := range []string{"bpe", "spm"} {
		for _, add := range [][2]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
			_, v, _ := sample(t, kind)
			v.AddBOS, v.AddEOS = add[0], add[1]
			data, err := encodeTokenizer(v)
			if err != nil {
				t.Fatal(err)
			}
			w, err := ParseTokenizer(data)
			if err != nil || w.AddBOS != add[0] || w.AddEOS != add[1] || add[0] && w.BOS != v.BOS || add[1] && w.EOS != v.EOS {
				t.Errorf("%s %v: %v %v, ids %d %d, %v", kind, add, w.AddBOS, w.AddEOS, w.BOS, w.EOS, err)
			}
		}
	}
}

func TestPartsAreFilledInOrder(t *testing.T) {
	of := func(sizes ...int) (list []safetensors.Entry) {
		for _, n := range sizes {
			list = append(list, safetensors.Of("", tensor.New(tensor.T(tensor.I8, n))))
		}
		return list
	}
	for name, c := range map[string]struct{ sizes, want []int }{
		"none": {nil, []int{0}}, "one": {[]int{10}, []int{1}}, "just": {[]int{4, 6, 1}, []int{2, 1}},
		"one more": {[]int{4, 7, 3}, []int{1, 2}}, "large": {[]int{1, 99, 1}, []int{1, 1, 1}},
	} {
		var got []int
		for _, s := range shard(of(c.sizes...), 10) {
			got = append(got, len(s))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestWriteRefusesWhatOthersWouldReadOtherwise(t *testing.T) {
	for name, spoil := range map[string]func(*Config, *tokenizer.Vocabulary, *[]safetensors.Entry){
		"tensor twice":    func(_ *Config, _ *tokenizer.Vocabulary, e *[]safetensors.Entry) { *e = append(*e, (*e)[0]) },
		"codes":           func(_ *Config, _ *tokenizer.Vocabulary, e *[]safetensors.Entry) { (*e)[0].Type.DType = tensor.U2 },
		"fewer tokens":    func(c *Config, _ *tokenizer.Vocabulary, _ *[]safetensors.Entry) { c.VocabSize++ },
		"no such config":  func(c *Config, _ *tokenizer.Vocabulary, _ *[]safetensors.Entry) { c.HeadDim = 0 },
		"model type":      func(c *Config, _ *tokenizer.Vocabulary, _ *[]safetensors.Entry) { c.ModelType = "gpt2" },
		"split":           func(_ *Config, v *tokenizer.Vocabulary, _ *[]safetensors.Entry) { v.Pre = "mine" },
		"tokenizer model": func(_ *Config, v *tokenizer.Vocabulary, _ *[]safetensors.Entry) { v.Model = "t5" },
		"token twice":     func(_ *Config, v *tokenizer.Vocabulary, _ *[]safetensors.Entry) { v.Tokens[1] = v.Tokens[0] },
		"not UTF-8":       func(_ *Config, v *tokenizer.Vocabulary, _ *[]safetensors.Entry) { v.Tokens[1] = "\xff" },
		"begin":           func(_ *Config, v *tokenizer.Vocabulary, _ *[]safetensors.Entry) { v.BOS = -1 },
		"end":             func(_ *Config, v *tokenizer.Vocabulary, _ *[]safetensors.Entry) { v.EOS = 389 },
	} {
		c, v, tensors := sample(t, "bpe")
		spoil(c, v, &tensors)
		dir := filepath.Join(t.TempDir(), "m")
		if err := Write(dir, c, v, tensors); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was written", name)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{},"weight_map":{"x":"a.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"x":"../a.safetensors"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		where, err := parseIndex(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		for _, file := range where {
			if filepath.Base(file) != file || filepath.Dir(filepath.Join("d", file)) != "d" {
				t.Fatalf("%q", file)
			}
		}
	})
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte(`{"add_bos_token":true,"bos_token":{"content":"<s>"},"eos_token":"</s>","added_tokens_decoder":{"0":{"content":"<unk>","special":true}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := parseSettings(data); err != nil && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
	})
}
