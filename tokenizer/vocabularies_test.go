package tokenizer

import (
	"encoding/binary"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// smallBPE is a vocabulary of the first 744 merges of GPT-2 under a split, with
// ids in another order than ranks, two tokens that no merge makes, three
// user-defined ones and its end of text in the middle.
func smallBPE(t testing.TB, pre string) *Vocabulary {
	t.Helper()
	of := vocabularyOf(t, "gpt2:1001")
	v := &Vocabulary{Model: "gpt2", Pre: pre, Merges: of.Merges, UNK: -1, PAD: -1, AddBOS: true}
	tokens := append(slices.Clone(of.Tokens[:1000]), "Ġneverland", printable([]byte("naïve")))
	slices.Reverse(tokens)
	tokens[0], tokens[2] = tokens[2], tokens[0]
	for _, s := range tokens {
		v.Tokens, v.Types = append(v.Tokens, s), append(v.Types, TokenNormal)
		if len(v.Tokens) != 500 {
			continue
		}
		v.EOS, v.BOS = int32(len(v.Tokens)), int32(len(v.Tokens))
		v.Tokens = append(v.Tokens, "<|end|>", "<tool>", "  ", "<to")
		v.Types = append(v.Types, TokenControl, TokenUserDefined, TokenUserDefined, TokenUserDefined)
	}
	return v
}

// tok512 is the SentencePiece vocabulary of testdata/tok512.bin: the length of
// the longest token, then score, length and bytes of each, with spaces for
// U+2581.
func tok512(t testing.TB) *Vocabulary {
	t.Helper()
	b, err := os.ReadFile("testdata/tok512.bin")
	if err != nil {
		t.Fatal(err)
	}
	v := &Vocabulary{Model: "llama", UNK: 0, BOS: 1, EOS: 2, PAD: -1, AddBOS: true, AddSpacePrefix: true}
	for b = b[4:]; len(b) > 0; {
		n := binary.LittleEndian.Uint32(b[4:])
		v.Scores = append(v.Scores, math.Float32frombits(binary.LittleEndian.Uint32(b)))
		v.Tokens = append(v.Tokens, strings.ReplaceAll(string(b[8:8+n]), " ", space))
		v.Types = append(v.Types, TokenNormal)
		b = b[8+n:]
	}
	v.Types[0], v.Types[1], v.Types[2] = TokenUnknown, TokenControl, TokenControl
	for i := 3; i < 3+256; i++ {
		v.Types[i] = TokenByte
	}
	return v
}

// tok512With has user-defined tokens, too.
func tok512With(t testing.TB, prefix bool) *Vocabulary {
	v := tok512(t)
	v.AddSpacePrefix = prefix
	for _, s := range []string{"<tool>", "once upon", "e, th", "\n\n"} {
		v.Tokens, v.Types, v.Scores = append(v.Tokens, s), append(v.Types, TokenUserDefined), append(v.Scores, -1000)
	}
	return v
}

// golden are the vocabularies of testdata/ids.json.
func golden(t testing.TB) map[string]*Vocabulary {
	all := map[string]*Vocabulary{
		"tok512": tok512(t), "tok512, user-defined": tok512With(t, false), "tok512, user-defined, space": tok512With(t, true),
	}
	for _, pre := range []string{"llama-bpe", "qwen2", "smollm", "falcon", "default", "deepseek-coder", "mpt"} {
		all[pre] = smallBPE(t, pre)
	}
	return all
}

func newTokenizer(t testing.TB, v *Vocabulary) *Tokenizer {
	t.Helper()
	tok, err := New(v)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}
