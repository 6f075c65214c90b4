package huggingface

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/tokenizer"
)

// golden is a file of testdata; hf.py made it.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// row holds a text, its ids by the libraries, and its pieces before merging.
type row struct {
	Text     string
	SPM, BPE []int32
	Pieces   []string
}

func rows(t *testing.T) (list []row) {
	t.Helper()
	if err := json.Unmarshal(golden(t, "ids.json"), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func index(v *tokenizer.Vocabulary) map[string]int32 {
	ids := map[string]int32{}
	for id, text := range v.Tokens {
		ids[text] = int32(id)
	}
	return ids
}

// byMerges encodes one piece: the first merge of the list until none is left.
func byMerges(v *tokenizer.Vocabulary, ids map[string]int32, piece string) (out []int32) {
	if id, ok := ids[piece]; ok && v.Pre == "llama-bpe" {
		return []int32{id}
	}
	parts := strings.Split(piece, "")
	for {
		best, at := len(v.Merges), -1
		for i := range len(parts) - 1 {
			if r := slices.Index(v.Merges, parts[i]+" "+parts[i+1]); r >= 0 && r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			break
		}
		parts = slices.Replace(parts, at, at+2, parts[at]+parts[at+1])
	}
	for _, p := range parts {
		out = append(out, ids[p])
	}
	return out
}

// byScores encodes a text as SentencePiece's BPE does: the pair that makes the
// token of the highest score until there is none.
func byScores(v *tokenizer.Vocabulary, ids map[string]int32, text string) (out []int32) {
	if text == "" {
		return nil
	}
	parts := strings.Split(space+strings.ReplaceAll(text, " ", space), "")
	for {
		best, at := float32(math.Inf(-1)), -1
		for i := range len(parts) - 1 {
			if id, ok := ids[parts[i]+parts[i+1]]; ok && v.Scores[id] > best {
				best, at = v.Scores[id], i
			}
		}
		if at < 0 {
			break
		}
		parts = slices.Replace(parts, at, at+2, parts[at]+parts[at+1])
	}
	for _, p := range parts {
		if id, ok := ids[p]; ok {
			out = append(out, id)
			continue
		}
		for _, b := range []byte(p) {
			out = append(out, ids[fmt.Sprintf("<0x%02X>", b)])
		}
	}
	return out
}

func TestByteLevelTokenizerEncodesAsTheLibraryDoes(t *testing.T) {
	v, err := ParseTokenizer(golden(t, "bpe.json"))
	if err != nil {
		t.Fatal(err)
	}
	if v.Model != "gpt2" || v.Pre != "llama-bpe" || v.BOS != 386 || v.EOS != -1 || !v.AddBOS || v.AddEOS || v.AddSpacePrefix || len(v.Tokens) != 389 {
		t.Errorf("%q %q, ids %d %d, %v %v %v, %d tokens", v.Model, v.Pre, v.BOS, v.EOS, v.AddBOS, v.AddEOS, v.AddSpacePrefix, len(v.Tokens))
	}
	if want := []int32{1, 3, 3, 4}; !slices.Equal(v.Types[385:], want) {
		t.Errorf("types %v, want %v", v.Types[385:], want)
	}
	ids := index(v)
	for _, r := range rows(t) {
		var got []int32
		for _, p := range r.Pieces {
			got = append(got, byMerges(v, ids, p)...)
		}
		if !slices.Equal(got, r.BPE) {
			t.Errorf("%q: %v, want %v", r.Text, got, r.BPE)
		}
	}
}

func TestSentencePieceEncodesAsTheLibraryDoes(t *testing.T) {
	model, err := ParseSentencePiece(golden(t, "tok512.model"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := ParseTokenizer(golden(t, "spm.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]*tokenizer.Vocabulary{"tokenizer.model": model, "tokenizer.json": file} {
		if v.Model != "llama" || v.BOS != 1 || v.UNK != 0 || !v.AddBOS || v.AddEOS || !v.AddSpacePrefix || len(v.Tokens) != 512 {
			t.Errorf("%s: %q, ids %d %d, %v %v %v, %d tokens", name, v.Model, v.BOS, v.UNK, v.AddBOS, v.AddEOS, v.AddSpacePrefix, len(v.Tokens))
		}
		ids := index(v)
		for _, r := range rows(t) {
			if got := byScores(v, ids, r.Text); !slices.Equal(got, r.SPM) {
				t.Errorf("%s: %q: %v, want %v", name, r.Text, got, r.SPM)
			}
		}
	}
	if d := cmp.Diff(model.Tokens, file.Tokens); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(model.Types, file.Types); d != "" {
		t.Error(d)
	}
	if model.Scores[300] != -41 || model.EOS != 2 || model.PAD != -1 {
		t.Errorf("score %v, ids %d %d", model.Scores[300], model.EOS, model.PAD)
	}
}

// tokenizerJSON is a small file of each kind; %s is for more members.
const (
	smallBPE = `{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},"pre_tokenizer":{"type":"ByteLevel"}%s}`
	smallSPM = `{"model":{"byte_fallback":true,"vocab":{"<unk>":0,"a":1,"\u2581":2,"\u2581a":3},"merges":[["\u2581","a"]],"unk_token":"<unk>"}%s}`
)

func TestSplitsAreTold(t *testing.T) {
	byteLevel := `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":%v}`
	regex := func(r string) string {
		s, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return `{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":` + string(s) + `},"behavior":"Isolated","invert":false},` +
			fmt.Sprintf(byteLevel, false) + `]}`
	}
	for name, c := range map[string]struct {
		pre    string
		ignore bool
		want   string
	}{
		"GPT-2":                {fmt.Sprintf(byteLevel, true), false, "gpt-2"},
		"LLaMA 3":              {regex(llama3Regex), true, "llama-bpe"},
		"LLaMA 3, merges only": {regex(llama3Regex), false, "dbrx"},
		"Qwen 2":               {regex(qwen2Regex), false, "qwen2"},
		"SmolLM":               {`{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"ByteLevel"}]}`, false, "smollm"},
		"Falcon": {`{"type":"Sequence","pretokenizers":[{"type":"Punctuation","behavior":"Contiguous"},{"type":"ByteLevel"},` +
			`{"type":"Digits","individual_digits":false},{"type":"Split","pattern":{"Regex":"[0-9][0-9][0-9]"},"behavior":"Isolated"}]}`, false, "falcon"},
		"other":      {regex(`\p{L}+`), false, ""},
		"none":       {`null`, false, ""},
		"whitespace": {`{"type":"Whitespace"}`, false, ""},
		"inverted":   {strings.Replace(regex(qwen2Regex), "false", "true", 1), false, ""},
	} {
		file := fmt.Sprintf(`{"model":{"vocab":{"a":0},"merges":[],"ignore_merges":%v},"pre_tokenizer":%s}`, c.ignore, c.pre)
		v, err := ParseTokenizer([]byte(file))
		switch {
		case c.want == "" && !errors.Is(err, ErrUnsupported):
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err != nil || v.Pre != c.want):
			t.Errorf("%s: %+v, %v; want %s", name, v, err, c.want)
		}
	}
}

func TestEverySplitIsWrittenAsItIsRead(t *testing.T) {
	for _, s := range splits {
		for _, name := range s.names {
			v := &tokenizer.Vocabulary{Model: "gpt2", Pre: name, Tokens: []string{"a"}, Types: []int32{1}, BOS: -1, EOS: -1, UNK: -1, PAD: -1}
			data, err := encodeTokenizer(v)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := ParseTokenizer(data); err != nil || got.Pre != s.names[0] {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
}

func TestSpacesOfSentencePieceInItsSpellings(t *testing.T) {
	replace := `{"type":"Replace","pattern":{"String":" "},"content":"\u2581"}`
	for name, c := range map[string]struct {
		json   string
		prefix bool
	}{
		"prepend":     {`,"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},` + replace + `]}`, true},
		"no prefix":   {`,"normalizer":` + replace, false},
		"first":       {`,"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"first","split":false}`, true},
		"never":       {`,"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"never","split":false}`, false},
		"old":         {`,"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","add_prefix_space":true}`, true},
		"old without": {`,"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","add_prefix_space":false}`, false},
	} {
		v, err := ParseTokenizer(fmt.Appendf(nil, smallSPM, c.json))
		if err != nil || v.AddSpacePrefix != c.prefix || v.Model != "llama" || v.UNK != 0 || v.Types[0] != tokenizer.TokenUnknown {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
	for name, json := range map[string]string{"no spaces": ``, "lower case": `,"normalizer":{"type":"Lowercase"}`} {
		if _, err := ParseTokenizer(fmt.Appendf(nil, smallSPM, json)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHolesAndAddedTokens(t *testing.T) {
	v, err := ParseTokenizer(fmt.Appendf(nil, smallBPE, `,"added_tokens":[{"id":5,"content":"<s>","special":true},{"id":4,"content":"x y","special":false}]`))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b", "ab", "[PAD3]", "x y", "<s>"}; !slices.Equal(v.Tokens, want) {
		t.Errorf("%q", v.Tokens)
	}
	if want := []int32{1, 1, 1, 5, 4, 3}; !slices.Equal(v.Types, want) {
		t.Errorf("%v", v.Types)
	}
}

func TestAScoreIsThePlaceOfTheFirstMerge(t *testing.T) {
	v, err := ParseTokenizer([]byte(`{"normalizer":{"type":"Replace","pattern":{"String":" "},"content":"\u2581"},"model":{"byte_fallback":true,` +
		`"vocab":{"a":0,"b":1,"ab":2,"ba":3,"aba":4,"<0x0A>":5},"merges":["b a","a b","a ba","ab a"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if want := []float32{0, 0, -1, 0, -2, 0}; !slices.Equal(v.Scores, want) || v.Types[5] != tokenizer.TokenByte {
		t.Errorf("%v, want %v; types %v", v.Scores, want, v.Types)
	}
}

func TestATokenizerThatIsWrongIsRefused(t *testing.T) {
	model := func(vocab, merges string) string {
		return `{"model":{"vocab":` + vocab + `,"merges":` + merges + `},"pre_tokenizer":{"type":"ByteLevel"}}`
	}
	more := func(json string) string { return fmt.Sprintf(smallBPE, json) }
	template := `,"post_processor":{"type":"TemplateProcessing","single":%s,"special_tokens":{"b":{"ids":[1]},"x":{"ids":[9]},"y":{"ids":[]}}}`
	for name, c := range map[string]struct {
		json, says string
		want       error
	}{
		"empty":            {``, "no JSON object", ErrFormat},
		"no model":         {`{}`, "missing", ErrFormat},
		"no merges":        {`{"model":{"vocab":{}}}`, "missing", ErrFormat},
		"no tokens":        {model(`{}`, `[]`), "no tokens", ErrFormat},
		"vocab a list":     {model(`[["a",0]]`, `[]`), "vocab", ErrFormat},
		"id text":          {model(`{"a":"0"}`, `[]`), `"a"`, ErrFormat},
		"id negative":      {model(`{"a":-1}`, `[]`), "id -1", ErrFormat},
		"id huge":          {model(`{"a":4000000000}`, `[]`), "4000000000", ErrFormat},
		"id twice":         {model(`{"a":0,"b":0}`, `[]`), "both", ErrFormat},
		"token twice":      {model(`{"a":0,"a":1}`, `[]`), "both", ErrFormat},
		"token empty":      {model(`{"":0}`, `[]`), "text of token 0", ErrFormat},
		"merge one":        {model(`{"a":0}`, `["a"]`), "merge 0", ErrFormat},
		"merge three":      {model(`{"a":0}`, `[["a","a","a"]]`), "merge 0", ErrFormat},
		"merge spaces":     {model(`{"a":0}`, `["a  a"]`), "merge 0", ErrFormat},
		"merge number":     {model(`{"a":0}`, `[1]`), "merge 0", ErrFormat},
		"merge unknown":    {model(`{"a":0,"b":1,"ab":2}`, `["a b","a c"]`), "merge 1", ErrFormat},
		"merge of nothing": {model(`{"a":0,"b":1}`, `["a b"]`), "merge 0", ErrFormat},
		"Unigram":          {`{"model":{"type":"Unigram","vocab":[]}}`, "Unigram", ErrUnsupported},
		"prefix":           {`{"model":{"type":"BPE","vocab":{},"merges":[],"continuing_subword_prefix":"##"}}`, "##", ErrUnsupported},
		"normalizer":       {more(`,"normalizer":{"type":"Lowercase"}`), "Lowercase", ErrUnsupported},
		"added other":      {more(`,"added_tokens":[{"id":1,"content":"c"}]`), "both", ErrFormat},
		"added no id":      {more(`,"added_tokens":[{"content":"c"}]`), "id -1", ErrFormat},
		"added number":     {more(`,"added_tokens":[1]`), "added_tokens", ErrFormat},
		"template id":      {more(fmt.Sprintf(template, `[{"SpecialToken":{"id":"x"}}]`)), `"x"`, ErrFormat},
		"template no id":   {more(fmt.Sprintf(template, `[{"SpecialToken":{"id":"y"}}]`)), `"y"`, ErrFormat},
		"template two":     {more(fmt.Sprintf(template, `[{"SpecialToken":{"id":"b"}},{"SpecialToken":{"id":"b"}}]`)), "several", ErrUnsupported},
		"post-processor":   {more(`,"post_processor":{"type":"BertProcessing"}`), "BertProcessing", ErrUnsupported},
	} {
		_, err := ParseTokenizer([]byte(c.json))
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v, want something with %q and a hint", name, err, c.says)
		}
	}
}

func FuzzTokenizerJSON(f *testing.F) {
	for _, name := range []string{"bpe.json", "spm.json"} {
		f.Add(golden(f, name))
	}
	f.Add(fmt.Appendf(nil, smallSPM, `,"normalizer":{"type":"Replace","pattern":{"String":" "},"content":"\u2581"}`))
	f.Add(fmt.Appendf(nil, smallBPE, `,"added_tokens":[{"id":5,"content":"<s>","special":true}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseTokenizer(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		checkSizes(t, v)
		again, err := encodeTokenizer(v)
		if err != nil {
			return // what tern can have and the file cannot
		}
		w, err := ParseTokenizer(again)
		if err != nil || cmp.Diff(v.Tokens, w.Tokens) != "" || cmp.Diff(v.Merges, w.Merges) != "" && len(v.Merges) > 0 {
			t.Fatalf("%v\n%s", err, cmp.Diff(v, w))
		}
	})
}

func checkSizes(t *testing.T, v *tokenizer.Vocabulary) {
	t.Helper()
	n := len(v.Tokens)
	if n == 0 || len(v.Types) != n || v.Model == "llama" && len(v.Scores) != n {
		t.Fatalf("%d tokens, %d types, %d scores", n, len(v.Types), len(v.Scores))
	}
	for _, id := range []int32{v.BOS, v.EOS, v.UNK, v.PAD} {
		if id < -1 || int(id) >= n {
			t.Fatalf("id %d of %d", id, n)
		}
	}
}

// spPiece appends a piece to a ModelProto.
func spPiece(b []byte, text string, score float32, kind byte) []byte {
	p := append([]byte{1<<3 | 2, byte(len(text))}, text...)
	p = binary.LittleEndian.AppendUint32(append(p, 2<<3|5), math.Float32bits(score))
	p = append(p, 3<<3, kind)
	return append(append(b, 1<<3|2, byte(len(p))), p...)
}

func TestASentencePieceModelThatIsWrongIsRefused(t *testing.T) {
	bpe := []byte{2<<3 | 2, 2, 3 << 3, bpeModel}
	sound := spPiece(bpe, "a", -1, tokenizer.TokenNormal)
	if v, err := ParseSentencePiece(sound); err != nil || v.Tokens[0] != "a" || v.Scores[0] != -1 || v.BOS != -1 || v.UNK != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"text":         {[]byte("IQ== 0\nIg== 1\n"), ErrFormat}, // LLaMA 3's tokenizer.model
		"no pieces":    {bpe, ErrFormat},
		"Unigram":      {spPiece(nil, "a", 0, tokenizer.TokenNormal), ErrUnsupported},
		"cut":          {sound[:len(sound)-1], ErrFormat},
		"empty text":   {spPiece(bpe, "", 0, tokenizer.TokenNormal), ErrFormat},
		"not UTF-8":    {spPiece(bpe, "\xff", 0, tokenizer.TokenNormal), ErrFormat},
		"NaN":          {spPiece(bpe, "a", nan, tokenizer.TokenNormal), ErrFormat},
		"type 0":       {spPiece(bpe, "a", 0, 0), ErrFormat},
		"type 7":       {spPiece(bpe, "a", 0, 7), ErrFormat},
		"byte":         {spPiece(bpe, "<0x0g>", 0, tokenizer.TokenByte), ErrFormat},
		"piece number": {append(slices.Clone(bpe), 1<<3, 1), ErrFormat},
	} {
		if _, err := ParseSentencePiece(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzSentencePiece(f *testing.F) {
	f.Add(golden(f, "tok512.model"))
	f.Add(spPiece([]byte{2<<3 | 2, 2, 3 << 3, bpeModel}, "a", -1, tokenizer.TokenNormal))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseSentencePiece(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		checkSizes(t, v)
	})
}
