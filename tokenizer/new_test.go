package tokenizer

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
)

func TestVocabulariesOfFilesEncodeAsLlamaCppDoes(t *testing.T) {
	b, err := os.ReadFile("testdata/ids.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Texts []string            `json:"texts"`
		IDs   map[string][]string `json:"ids"`
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	for name, v := range golden(t) {
		tok, lines := newTokenizer(t, v), want.IDs[name]
		if len(lines) != len(want.Texts) {
			t.Fatalf("%s: %d texts, %d lines", name, len(want.Texts), len(lines))
		}
		for i, text := range want.Texts {
			var ids []string
			for _, id := range tok.EncodeString(text) {
				ids = append(ids, strconv.Itoa(int(id)))
			}
			if got := strings.Join(ids, " "); got != lines[i] {
				t.Errorf("%s: %q\n got %s\nwant %s", name, text, got, lines[i])
			}
		}
	}
}

func TestDecodeGivesTheTextBack(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	all := golden(t)
	delete(all, "tok512, user-defined, space") // a space follows each of them
	for name, v := range all {
		tok := newTokenizer(t, v)
		for range 3000 {
			s := strings.ReplaceAll(strings.ToValidUTF8(randomText(r, r.IntN(40)), ""), space, "")
			ids := tok.EncodeString(s)
			if got := tok.Decode(ids); got != s {
				t.Fatalf("%s: %q came back as %q", name, s, got)
			}
			if got := tok.Decode(append(tok.Begin(), tok.EncodeDocument(nil, []byte(s))...)); got != s {
				t.Fatalf("%s: the document %q came back as %q", name, s, got)
			}
			if v.AddSpacePrefix {
				s = " " + s
			}
			stream, text := tok.NewStream(), ""
			for _, id := range ids {
				text += stream.Push(id)
			}
			if text += stream.Flush(); len(ids) > 0 && (text != s || tok.BytesOf(ids) != len(s)) {
				t.Fatalf("%s: %q streamed as %q, %d bytes", name, s, text, tok.BytesOf(ids))
			}
		}
	}
}

func TestNewGivesTheTokenizerOfOpen(t *testing.T) {
	for _, name := range []string{"gpt2", "gpt2:300", "gpt2:4096"} {
		v := vocabularyOf(t, name)
		v.AddBOS = false
		if got := newTokenizer(t, v); got != open(t, name) {
			t.Errorf("%s: its vocabulary gives %s", name, got.Name())
		}
		if name == "gpt2" {
			continue // the same below takes seconds
		}
		for what, change := range map[string]func(v *Vocabulary){
			"a token":     func(v *Vocabulary) { v.Tokens[257] = "never" },
			"a merge":     func(v *Vocabulary) { v.Merges = v.Merges[1:] },
			"the split":   func(v *Vocabulary) { v.Pre = "llama-bpe" },
			"a type":      func(v *Vocabulary) { v.Types[257] = TokenUserDefined },
			"the end":     func(v *Vocabulary) { v.EOS = 3 },
			"another BOS": func(v *Vocabulary) { v.BOS = 3 },
		} {
			v := vocabularyOf(t, name)
			change(v)
			tok, err := New(v)
			if what == "a token" || what == "a type" { // merges that lack theirs
				if !errors.Is(err, ErrVocabulary) {
					t.Errorf("%s with %s changed: %v", name, what, err)
				}
			} else if err != nil || !strings.HasPrefix(tok.Name(), "gguf:") || tok == open(t, name) {
				t.Errorf("%s with %s changed: %v", name, what, err)
			}
		}
	}
}

func TestNamesTellVocabulariesApart(t *testing.T) {
	seen := map[string]int{}
	for i, change := range []func(v *Vocabulary){
		func(*Vocabulary) {},
		func(v *Vocabulary) { v.Tokens[300] += "x" },
		func(v *Vocabulary) { v.Tokens[300], v.Tokens[301] = v.Tokens[301], v.Tokens[300] },
		func(v *Vocabulary) { v.Scores[300] = 7 },
		func(v *Vocabulary) { v.Types[300] = TokenUnused },
		func(v *Vocabulary) { v.BOS = 5 },
		func(v *Vocabulary) { v.EOS = 5 },
		func(v *Vocabulary) { v.UNK = 5 },
		func(v *Vocabulary) { v.PAD = 5 },
		func(v *Vocabulary) { v.AddBOS = false },
		func(v *Vocabulary) { v.AddEOS = true },
		func(v *Vocabulary) { v.AddSpacePrefix = false },
	} {
		v := tok512(t)
		change(v)
		name := newTokenizer(t, v).Name()
		if j, ok := seen[name]; ok {
			t.Errorf("vocabularies %d and %d are both %s", i, j, name)
		}
		seen[name] = i
	}
	v := tok512(t)
	v.Pre, v.Merges = "default", []string{"what", "nobody reads"}
	tok := newTokenizer(t, v)
	if tok.Name() != newTokenizer(t, tok512(t)).Name() {
		t.Error("what the model does not read changes the name")
	}
	again, err := tok.Vocabulary()
	if err != nil || newTokenizer(t, again).Name() != tok.Name() {
		t.Errorf("the vocabulary of %s gives another (%v)", tok.Name(), err)
	}
	if _, err := Open(tok.Name()); !errors.Is(err, ErrUnknown) {
		t.Errorf("Open of %s: %v", tok.Name(), err)
	}
}

func TestUnusableVocabulariesAreRefused(t *testing.T) {
	for what, c := range map[string]struct {
		change func(v *Vocabulary)
		want   error
		says   string
	}{
		"model":             {func(v *Vocabulary) { v.Model = "bert" }, ErrUnknown, `"bert"`},
		"split":             {func(v *Vocabulary) { v.Pre = "gpt-9" }, ErrUnknown, `"gpt-9"`},
		"no tokens":         {func(v *Vocabulary) { v.Tokens = nil }, ErrVocabulary, "0 tokens"},
		"too many tokens":   {func(v *Vocabulary) { v.Tokens = make([]string, MaxTokens+1) }, ErrVocabulary, "1048577 tokens"},
		"too many merges":   {func(v *Vocabulary) { v.Merges = make([]string, maxMerges+1) }, ErrVocabulary, "merges"},
		"too many bytes":    {func(v *Vocabulary) { v.Tokens[3] = strings.Repeat("a", maxVocabularyBytes+1) }, ErrVocabulary, "bytes"},
		"types missing":     {func(v *Vocabulary) { v.Types = v.Types[1:] }, ErrVocabulary, "1005 types"},
		"scores missing":    {func(v *Vocabulary) { v.Scores = []float32{1} }, ErrVocabulary, "1 scores"},
		"score NaN":         {func(v *Vocabulary) { v.Scores = make([]float32, 1006); v.Scores[9] = float32(math.NaN()) }, ErrVocabulary, "token 9 "},
		"BOS outside":       {func(v *Vocabulary) { v.BOS = 1006 }, ErrVocabulary, "BOS is 1006"},
		"EOS outside":       {func(v *Vocabulary) { v.EOS = -2 }, ErrVocabulary, "EOS is -2"},
		"UNK outside":       {func(v *Vocabulary) { v.UNK = math.MaxInt32 }, ErrVocabulary, "UNK"},
		"PAD outside":       {func(v *Vocabulary) { v.PAD = math.MinInt32 }, ErrVocabulary, "PAD"},
		"BOS asked for":     {func(v *Vocabulary) { v.BOS = -1 }, ErrVocabulary, "BOS"},
		"EOS asked for":     {func(v *Vocabulary) { v.EOS, v.AddEOS = -1, true }, ErrVocabulary, "EOS"},
		"not UTF-8":         {func(v *Vocabulary) { v.Tokens[8] = "a\xff" }, ErrVocabulary, "token 8 "},
		"type 0":            {func(v *Vocabulary) { v.Types[8] = 0 }, ErrVocabulary, "type 0"},
		"type 7":            {func(v *Vocabulary) { v.Types[8] = 7 }, ErrVocabulary, "type 7"},
		"byte's form":       {func(v *Vocabulary) { v.Types[8], v.Tokens[8] = TokenByte, "<0xG1>" }, ErrVocabulary, "token 8 "},
		"long user-defined": {func(v *Vocabulary) { v.Types[8], v.Tokens[8] = TokenUserDefined, strings.Repeat("x", 257) }, ErrVocabulary, "token 8 "},
		"merge of one":      {func(v *Vocabulary) { v.Merges[5] = "Ġt" }, ErrVocabulary, "merge 5 "},
		"merge of three":    {func(v *Vocabulary) { v.Merges[5] = "Ġ t h" }, ErrVocabulary, "merge 5 "},
		"merge of nothing":  {func(v *Vocabulary) { v.Merges[5] = " t" }, ErrVocabulary, "merge 5 "},
		"unknown part":      {func(v *Vocabulary) { v.Merges[5] = "Ġt qqq" }, ErrVocabulary, "merge 5 "},
		"unknown result":    {func(v *Vocabulary) { v.Merges[5] = "q q" }, ErrVocabulary, "merge 5 "},
		"result is control": {func(v *Vocabulary) { v.Merges[5], v.Tokens[500] = "q q", "qq" }, ErrVocabulary, "merge 5 "},
	} {
		v := smallBPE(t, "llama-bpe")
		c.change(v)
		tok, err := New(v)
		if tok != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
	if _, err := New(nil); !errors.Is(err, ErrVocabulary) {
		t.Errorf("nil: %v", err)
	}
}

func TestNewKeepsNothingOfItsCaller(t *testing.T) {
	v := smallBPE(t, "llama-bpe")
	tok := newTokenizer(t, v)
	want, name := tok.EncodeString("the end"), tok.Name()
	for i := range v.Tokens {
		v.Tokens[i], v.Types[i] = "x", TokenControl
	}
	got, err := tok.Vocabulary()
	if err != nil {
		t.Fatal(err)
	}
	if again := newTokenizer(t, got); again.Name() != name || !slices.Equal(again.EncodeString("the end"), want) {
		t.Errorf("the vocabulary of %s is %s", name, again.Name())
	}
}

func TestLongRunsOfForeignVocabulariesTakeNoQuadraticTime(t *testing.T) {
	all := golden(t)
	for _, name := range []string{"llama-bpe", "default", "tok512", "tok512, user-defined"} {
		tok := newTokenizer(t, all[name])
		for _, unit := range []string{"a", " ", "0", "\n", "<to", "ab, "} {
			text := bytes.Repeat([]byte(unit), 1<<20/len(unit))
			start := time.Now()
			ids := tok.Encode(nil, text)
			// Quadratic time would be 20 minutes.
			if d := time.Since(start); d > time.Minute {
				t.Errorf("%s: 1 MB of %q took %v", name, unit, d)
			}
			if tok.Decode(ids) != string(text) {
				t.Errorf("%s: 1 MB of %q does not come back", name, unit)
			}
		}
	}
}

func BenchmarkEncodeForeign(b *testing.B) {
	text := validText(b)
	for name, v := range map[string]*Vocabulary{"bpe": smallBPE(b, "llama-bpe"), "sentencepiece": tok512(b)} {
		b.Run(name, func(b *testing.B) {
			tok := newTokenizer(b, v)
			dst := tok.Encode(nil, text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				dst = tok.Encode(dst[:0], text)
			}
		})
	}
}
