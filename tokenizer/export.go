package tokenizer

import (
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

// Kinds of tokens in Vocabulary.Types, as llama.cpp numbers them.
const (
	TokenNormal      = 1
	TokenUnknown     = 2 // stands for what has no token
	TokenControl     = 3 // no text
	TokenUserDefined = 4 // found in a text before it is split
	TokenUnused      = 5 // no text
	TokenByte        = 6 // "<0xXX>", the byte
)

// Vocabulary is a tokenizer as the keys tokenizer.ggml.* of a GGUF file
// describe it (ggml's docs/gguf.md). New says what may be left out.
type Vocabulary struct {
	Model    string    // "gpt2": byte-level BPE; "llama": SentencePiece's BPE
	Pre      string    // name of the split into pieces, such as "gpt-2"; model "gpt2" only
	Tokens   []string  // by id; of "gpt2" normal ones in GPT-2's printable alphabet, of "llama" with U+2581 for spaces
	Types    []int32   // by id, TokenNormal and so on
	Merges   []string  // "a b", the first to be merged first; model "gpt2" only
	Scores   []float32 // by id, the higher to be merged first; model "llama" only
	BOS, EOS int32     // -1 for none
	UNK, PAD int32     // -1 for none
	AddBOS   bool      // a text begins with BOS
	AddEOS   bool      // a text ends with EOS; Encode adds neither
	// AddSpacePrefix puts a space before a text (model "llama").
	AddSpacePrefix bool
}

// Vocabulary describes t to other programs. Where Open made t, the end-of-text
// id is both the first and the last token of a text, as in training; else it is
// the vocabulary that New was given, with types and scores.
func (t *Tokenizer) Vocabulary() (*Vocabulary, error) {
	if t.rules != nil {
		return complete(t.rules.of), nil
	}
	v := &Vocabulary{Model: "gpt2", Pre: "gpt-2", BOS: t.eot, EOS: t.eot, UNK: -1, PAD: -1, AddBOS: true}
	for id := range t.eot {
		token := t.vocab.token(id)
		v.Tokens, v.Types = append(v.Tokens, printable(token)), append(v.Types, TokenNormal)
		if len(token) < 2 {
			continue
		}
		cut := t.lastMerge(token, id)
		if cut == 0 {
			return nil, errors.AssertionFailedf("token %d %q is no merge of two earlier ones", id, token)
		}
		v.Merges = append(v.Merges, printable(token[:cut])+" "+printable(token[cut:]))
	}
	v.Tokens, v.Types = append(v.Tokens, EndOfText), append(v.Types, TokenControl)
	return v, nil
}

// lastMerge returns the length of the first of the two parts that the merges
// before rank make of token, or 0 if they leave more than two.
func (t *Tokenizer) lastMerge(token []byte, rank int32) int {
	ends := make([]int, len(token)) // of the parts
	for i := range ends {
		ends[i] = i + 1
	}
	for len(ends) > 2 {
		best, at := rank, -1
		for i := range ends[1:] {
			start := 0
			if i > 0 {
				start = ends[i-1]
			}
			if r := t.vocab.rank(token[start:ends[i+1]]); r >= 0 && r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			return 0
		}
		ends = slices.Delete(ends, at, at+1)
	}
	return ends[0]
}

// alphabet is GPT-2's printable character of each byte: the byte itself where
// that is printable in Latin-1, else the next from U+0100 on.
var alphabet = func() (a [256]rune) {
	next := rune(0x100)
	for b := range a {
		if b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae {
			a[b] = rune(b)
			continue
		}
		a[b] = next
		next++
	}
	return a
}()

// printable is a token in the alphabet.
func printable(token []byte) string {
	var s strings.Builder
	for _, b := range token {
		s.WriteRune(alphabet[b])
	}
	return s.String()
}

// byteOf is the byte of each character of the alphabet, -1 for others.
var byteOf = func() (table [0x144]int16) {
	for i := range table {
		table[i] = -1
	}
	for b, r := range alphabet {
		table[r] = int16(b)
	}
	return table
}()

// unprintable is the inverse of printable; ok is false where a character is
// outside the alphabet.
func unprintable(token string) (raw string, ok bool) {
	buf := make([]byte, 0, len(token))
	for _, r := range token {
		if int(r) >= len(byteOf) || byteOf[r] < 0 {
			return "", false
		}
		buf = append(buf, byte(byteOf[r]))
	}
	return string(buf), true
}
