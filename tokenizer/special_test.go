package tokenizer

import (
	"slices"
	"testing"
)

func TestSpecialTokens(t *testing.T) {
	if tok := open(t, "gpt2:300"); !slices.Equal(tok.Begin(), []int32{299}) {
		t.Errorf("%s begins with %v", tok.Name(), tok.Begin())
	}
	tok := newTokenizer(t, smallBPE(t, "llama-bpe"))
	if got := tok.Begin(); !slices.Equal(got, []int32{500}) || tok.EOT() != 500 || tok.Vocab() != 1006 {
		t.Errorf("begin %v, end %d, %d ids", got, tok.EOT(), tok.Vocab())
	}
	ids := tok.EncodeDocument(nil, []byte("<|end|>a <tool>"))
	if n := len(ids); slices.Contains(ids[:n-1], 500) || ids[n-1] != 500 || ids[n-2] != 501 {
		t.Errorf("a literal end of text and a user-defined token are %v", ids)
	}
	if got := tok.Decode(ids); got != "<|end|>a <tool>" || tok.Bytes(500) != 0 || tok.Token(500) != nil || string(tok.Token(501)) != "<tool>" {
		t.Errorf("decoded %q", got)
	}
	if got := tok.Decode([]int32{-1, 1006}); got != "\ufffd\ufffd" {
		t.Errorf("ids outside the vocabulary are %q", got)
	}
	v := tok512(t)
	v.EOS, v.AddBOS = -1, false
	if tok = newTokenizer(t, v); tok.EOT() != -1 || len(tok.Begin()) != 0 || len(tok.EncodeDocument(nil, nil)) != 0 {
		t.Errorf("without special ids: end %d, begin %v", tok.EOT(), tok.Begin())
	}
}

// A text is ordinary where it spells tokens that are none of a text.
func TestNoTextMakesSpecialTokens(t *testing.T) {
	v := &Vocabulary{
		Model: "llama", Tokens: []string{"<unk>", "<s>", "</s>", "<0x41>", " x", "<", "s", ">", "/", "<s", "</", "</s", "0", "x41", space, "x"},
		Types: []int32{2, 3, 4, 6, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, BOS: 1, EOS: 2, UNK: 0, PAD: -1, AddSpacePrefix: true,
	}
	tok := newTokenizer(t, v)
	if got := tok.EncodeString("<s></s>"); !slices.Equal(got, []int32{14, 9, 7, 11, 7}) {
		t.Errorf("the spelling of control tokens is %v", got)
	}
	// A user-defined token keeps its space; that before a text is no part of it.
	if got := tok.EncodeString(" x"); !slices.Equal(got, []int32{4}) || tok.Decode(got) != " x" || tok.Decode([]int32{1, 14, 15}) != "x" {
		t.Errorf("%v is %q", got, tok.Decode(got))
	}
}

// What has no token is the unknown token, or nothing where that ends texts.
func TestWhatHasNoToken(t *testing.T) {
	spm := &Vocabulary{Model: "llama", Tokens: []string{"<unk>", "</s>", "a", "<0xC3>", space}, Types: []int32{2, 3, 1, 6, 1}, EOS: 1, BOS: -1, PAD: -1}
	bpe := &Vocabulary{Model: "gpt2", Pre: "gpt-2", Tokens: []string{"<unk>", "</s>", "a", "b"}, Types: []int32{2, 3, 1, 1}, EOS: 1, BOS: -1, PAD: -1}
	for _, c := range []struct {
		v    *Vocabulary
		unk  int32
		want []int32
	}{{spm, 0, []int32{2, 0, 2}}, {spm, -1, []int32{2, 2}}, {spm, 1, []int32{2, 2}}, {bpe, 0, []int32{2, 0, 0, 2}}, {bpe, -1, []int32{2, 2}}, {bpe, 1, []int32{2, 2}}} {
		c.v.UNK = c.unk
		if got := newTokenizer(t, c.v).EncodeString("a\u00e9a"); !slices.Equal(got, c.want) {
			t.Errorf("%s with unknown token %d: %v, want %v", c.v.Model, c.unk, got, c.want)
		}
	}
}

func TestOddVocabularies(t *testing.T) {
	v := &Vocabulary{
		Model: "llama", Tokens: []string{"a", "a", "", "ab", "b", "<0x41>", "c d", "a" + space + "b", space},
		BOS: -1, EOS: -1, UNK: -1, PAD: -1,
	}
	tok := newTokenizer(t, v)
	if got := tok.EncodeString("aabA"); !slices.Equal(got, []int32{0, 3, 5}) {
		t.Errorf("the first of equal tokens, no empty one and a byte's without types: %v", got)
	}
	v.Scores = []float32{0, 0, 0, 1, 0, 0, 0, 5, 0}
	v.Tokens = append(v.Tokens, "a"+space)
	v.Scores = append(v.Scores, 6)
	if got := newTokenizer(t, v).EncodeString("aa b"); !slices.Equal(got, []int32{0, 7}) {
		t.Errorf("a token across words: %v", got)
	}
	twice := &Vocabulary{Model: "gpt2", Tokens: []string{"a", "b", "ab", "bb"}, Merges: []string{"a b", "b b", "a b"}, BOS: -1, EOS: -1, UNK: -1, PAD: -1}
	if got := newTokenizer(t, twice).EncodeString("abb"); !slices.Equal(got, []int32{2, 1}) {
		t.Errorf("the first of equal merges: %v", got)
	}
	odd := &Vocabulary{Model: "gpt2", Tokens: []string{"™", "a", "Ġ", "b"}, BOS: -1, EOS: -1, UNK: -1, PAD: -1}
	tok = newTokenizer(t, odd)
	if got := tok.EncodeString("™a b"); !slices.Equal(got, []int32{1, 2, 3}) || tok.Decode([]int32{0}) != "™" {
		t.Errorf("a token outside the alphabet: %v", got)
	}
}
