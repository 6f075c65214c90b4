package tokenizer

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
)

const (
	// MaxVocab is the size of GPT-2's vocabulary, the end-of-text id included.
	MaxVocab = 50257
	// MinVocab leaves the 256 bytes and the end-of-text id.
	MinVocab = 257
	// EndOfText is what separates documents in plain text.
	EndOfText = "<|endoftext|>"

	tokenizerHint = `use "gpt2" (50257 ids) or "gpt2:N" with N from 257 to 50257, for example "gpt2:4096"`
)

// Tokenizer is a byte-level BPE with GPT-2's merges. It is safe for concurrent
// use and never changes; Open hands out one per name.
type Tokenizer struct {
	name  string
	vocab *vocabulary
	eot   int32
	cache pieceCache
	slow  func(piece []byte) []int32 // tiktoken-go, for what the cache lacks
}

var opened struct {
	sync.Mutex
	byName map[string]*Tokenizer
}

// Open returns the tokenizer of a name: "gpt2" is GPT-2's (r50k_base,
// 50257 ids), "gpt2:N" its first N-1 ranks and the end-of-text id N-1. The
// first ranks of a BPE are themselves a BPE: a smaller N only stops merging
// earlier. No network is used. The error is ErrUnknown.
func Open(name string) (*Tokenizer, error) {
	size, err := Size(name)
	if err != nil {
		return nil, err
	}
	canonical := tokenizerName(size)
	opened.Lock()
	defer opened.Unlock()
	if t := opened.byName[canonical]; t != nil {
		return t, nil
	}
	ranks, err := gpt2Ranks()
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{
		name:  canonical,
		vocab: newVocabulary(ranks[:size-1]),
		eot:   int32(size - 1),
		slow:  library(size),
	}
	if opened.byName == nil {
		opened.byName = map[string]*Tokenizer{}
	}
	opened.byName[canonical] = t
	return t, nil
}

func tokenizerName(size int) string {
	if size == MaxVocab {
		return "gpt2"
	}
	return "gpt2:" + strconv.Itoa(size)
}

// Size returns the number of ids of the tokenizer of a name; ErrUnknown if there
// is none.
func Size(name string) (size int, err error) {
	if name == "gpt2" {
		return MaxVocab, nil
	}
	digits, ok := strings.CutPrefix(name, "gpt2:")
	size, err = strconv.Atoi(digits)
	if !ok || err != nil || size < MinVocab || size > MaxVocab {
		return 0, errors.WithHint(errors.Wrapf(ErrUnknown, "tokenizer %q", name), tokenizerHint)
	}
	return size, nil
}

// Name returns the name that Open takes.
func (t *Tokenizer) Name() string { return t.name }

// Vocab returns the number of ids, the end-of-text id included.
func (t *Tokenizer) Vocab() int { return int(t.eot) + 1 }

// EOT returns the id that ends a document: the last one.
func (t *Tokenizer) EOT() int32 { return t.eot }

// Encode appends the ids of text to dst and returns it. The text is ordinary
// throughout: a literal <|endoftext|> becomes the tokens of its characters.
// A byte that is not UTF-8 is taken as U+FFFD, as GPT-2's own encoder and
// tiktoken do, so such text does not decode to itself. Encode allocates only
// to grow dst and for pieces it has not met before.
func (t *Tokenizer) Encode(dst []int32, text []byte) []int32 {
	if !utf8.Valid(text) {
		text = []byte(string([]rune(string(text))))
	}
	for len(text) > 0 {
		n := nextPiece(text)
		dst = t.encodePiece(dst, text[:n])
		text = text[n:]
	}
	return dst
}

// EncodeString returns the ids of text; see Encode.
func (t *Tokenizer) EncodeString(text string) []int32 {
	return t.Encode(make([]int32, 0, len(text)/3+1), []byte(text))
}

// EncodeDocument is Encode followed by the end-of-text id.
func (t *Tokenizer) EncodeDocument(dst []int32, text []byte) []int32 {
	return append(t.Encode(dst, text), t.eot)
}

// encodePiece appends the ids of one piece of the split. A piece that is a
// token is that token, whatever the merges would give (as tiktoken has it).
func (t *Tokenizer) encodePiece(dst []int32, piece []byte) []int32 {
	h := hashPiece(piece)
	if id := t.vocab.find(piece, h); id >= 0 {
		return append(dst, id)
	}
	if len(piece) > longPiece {
		return t.vocab.merge(dst, piece)
	}
	if ids := t.cache.find(piece, h); ids != nil {
		return append(dst, ids...)
	}
	ids := t.slow(piece)
	t.cache.add(piece, h, ids)
	return append(dst, ids...)
}

// Decode returns the text of ids. The end-of-text id is no text; an id outside
// the vocabulary is U+FFFD. The result need not be UTF-8 where ids were cut
// from a longer sequence: use Stream to show text as it comes.
func (t *Tokenizer) Decode(ids []int32) string { return string(t.AppendDecode(nil, ids)) }

// AppendDecode appends the text of ids to dst; see Decode.
func (t *Tokenizer) AppendDecode(dst []byte, ids []int32) []byte {
	for _, id := range ids {
		dst = t.AppendToken(dst, id)
	}
	return dst
}

// AppendToken appends the text of one id; see Decode.
func (t *Tokenizer) AppendToken(dst []byte, id int32) []byte {
	switch {
	case id == t.eot:
		return dst
	case id < 0 || id > t.eot:
		return utf8.AppendRune(dst, utf8.RuneError)
	}
	return append(dst, t.vocab.token(id)...)
}

// Bytes returns the length in bytes of an id's text: 0 for the end-of-text id
// and for an id outside the vocabulary.
func (t *Tokenizer) Bytes(id int32) int {
	if id < 0 || id >= t.eot {
		return 0
	}
	return len(t.vocab.token(id))
}

// BytesOf returns the bytes of text that ids stand for, so that a loss of
// n nats a token becomes bits a byte: n * len(ids) / ln 2 / BytesOf(ids).
func (t *Tokenizer) BytesOf(ids []int32) int {
	n := 0
	for _, id := range ids {
		n += t.Bytes(id)
	}
	return n
}

// Token returns a copy of an id's bytes, as Bytes counts them.
func (t *Tokenizer) Token(id int32) []byte {
	if id < 0 || id >= t.eot {
		return nil
	}
	return slices.Clone(t.vocab.token(id))
}
