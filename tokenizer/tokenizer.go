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

// Tokenizer is a byte-level BPE with GPT-2's merges, from Open, or one that a
// model's file describes, from New. It is safe for concurrent use and never
// changes.
type Tokenizer struct {
	name  string
	vocab *vocabulary
	eot   int32 // -1 for none
	begin []int32
	cache pieceCache
	slow  func(piece []byte) []int32 // tiktoken-go, for what the cache lacks
	rules *rules                     // of New; nil where Open made t
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
		begin: []int32{int32(size - 1)},
		slow:  library(size),
	}
	t.vocab.add("") // the end of text, of no text and not to be found
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

// Name returns the name that Open takes, or for a vocabulary of its own "gguf:"
// and 12 hexadecimal digits that tell vocabularies apart; see New.
func (t *Tokenizer) Name() string { return t.name }

// Vocab returns the number of ids, those without text included.
func (t *Tokenizer) Vocab() int { return t.vocab.size() }

// EOT returns the id that ends a document: the last one where Open made t, else
// the vocabulary's EOS, which may be any id, or -1 for none.
func (t *Tokenizer) EOT() int32 { return t.eot }

// Begin returns the ids that a text begins with before those of Encode: the
// end-of-text id where Open made t, BOS where the vocabulary has AddBOS, or none.
func (t *Tokenizer) Begin() []int32 { return slices.Clone(t.begin) }

// Encode appends the ids of text to dst and returns it. The text is ordinary
// throughout: a literal <|endoftext|> becomes the tokens of its characters.
// A byte that is not UTF-8 is taken as U+FFFD, as GPT-2's own encoder and
// tiktoken do, so such text does not decode to itself. Encode allocates only
// to grow dst and for pieces it has not met before, with vocabularies from
// files also where it looks for their user-defined tokens or writes spaces as
// U+2581.
func (t *Tokenizer) Encode(dst []int32, text []byte) []int32 {
	if !utf8.Valid(text) {
		text = []byte(string([]rune(string(text))))
	}
	if t.rules != nil {
		return t.encodeText(dst, text)
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

// EncodeDocument is Encode followed by the id of EOT where there is one.
func (t *Tokenizer) EncodeDocument(dst []int32, text []byte) []int32 {
	dst = t.Encode(dst, text)
	if t.eot < 0 {
		return dst
	}
	return append(dst, t.eot)
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

// Decode returns the text of ids. The end-of-text id, control tokens and
// unknown tokens are no text; an id outside the vocabulary is U+FFFD. The result
// need not be UTF-8 where ids were cut from a longer sequence: use Stream to
// show text as it comes. ids begin a text: the space that a vocabulary with
// AddSpacePrefix puts in front of one is taken away, also after BOS (where
// SentencePiece takes it away and llama.cpp does not).
func (t *Tokenizer) Decode(ids []int32) string { return string(t.AppendDecode(nil, ids)) }

// AppendDecode appends the text of ids to dst; see Decode.
func (t *Tokenizer) AppendDecode(dst []byte, ids []int32) []byte {
	if t.rules != nil && t.rules.prefix {
		dst, ids = t.decodeStart(dst, ids)
	}
	for _, id := range ids {
		dst = t.AppendToken(dst, id)
	}
	return dst
}

// AppendToken appends the text of one id within a text; see Decode.
func (t *Tokenizer) AppendToken(dst []byte, id int32) []byte {
	if !t.vocab.has(id) {
		return utf8.AppendRune(dst, utf8.RuneError)
	}
	return append(dst, t.vocab.token(id)...)
}

// Bytes returns the length in bytes of an id's text: 0 for the end-of-text id,
// for control and unknown tokens and for an id outside the vocabulary.
func (t *Tokenizer) Bytes(id int32) int {
	if !t.vocab.has(id) {
		return 0
	}
	return len(t.vocab.token(id))
}

// BytesOf returns the bytes of text that ids stand for, so that a loss of
// n nats a token becomes bits a byte: n * len(ids) / ln 2 / BytesOf(ids). A space
// that was put in front of the text counts.
func (t *Tokenizer) BytesOf(ids []int32) int {
	n := 0
	for _, id := range ids {
		n += t.Bytes(id)
	}
	return n
}

// Token returns a copy of an id's bytes, as Bytes counts them.
func (t *Tokenizer) Token(id int32) []byte {
	if t.Bytes(id) == 0 {
		return nil
	}
	return slices.Clone(t.vocab.token(id))
}
