package tokenizer

import (
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

// Kinds of tokens in Vocabulary.Types, as llama.cpp numbers them.
const (
	TokenNormal  = 1
	TokenControl = 3
)

// Vocabulary is a tokenizer as the keys tokenizer.ggml.* of a GGUF file
// describe it (ggml's docs/gguf.md).
type Vocabulary struct {
	Model    string   // "gpt2": byte-level BPE
	Pre      string   // name of the split into pieces, such as "gpt-2"
	Tokens   []string // by id, in GPT-2's printable alphabet
	Types    []int32  // by id, TokenNormal or TokenControl
	Merges   []string // "a b", the first to be merged first
	BOS, EOS int32
	AddBOS   bool // a text begins with BOS
}

// Vocabulary describes t to other programs. The end-of-text id is both the
// first and the last token of a text, as in training.
func (t *Tokenizer) Vocabulary() (*Vocabulary, error) {
	v := &Vocabulary{Model: "gpt2", Pre: "gpt-2", BOS: t.eot, EOS: t.eot, AddBOS: true}
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
