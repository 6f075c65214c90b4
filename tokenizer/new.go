package tokenizer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// New returns the tokenizer that a vocabulary describes: of model "gpt2", a
// byte-level BPE with merges, split by Pre as llama.cpp does, or of model
// "llama", SentencePiece's BPE by scores with tokens for bytes. A vocabulary
// with the tokens and merges of Open("gpt2:N") gives that very tokenizer,
// whatever it says of AddBOS.
//
// User-defined tokens are found in a text before all else, the longest first.
// Control, unknown, unused and byte tokens never come from their own text, and
// all that end a text by their names, such as </s>, are control tokens. Of
// tokens with equal text the first counts (llama.cpp ends at such a vocabulary);
// a token without text or, of model "gpt2", outside GPT-2's alphabet is never
// made of text. A byte that has no token is UNK if that is neither BOS nor EOS,
// else it is left away, as llama.cpp does; vocabularies that lack bytes, of
// characters that nobody wrote, exist. Types nil means that all are
// TokenNormal, of model "llama" those of the form <0xXX> TokenByte; Scores nil
// that all are 0.
//
// The name is "gguf:" and the first 12 hexadecimal digits of the SHA-256 of all
// that tells vocabularies apart. Open does not know it.
//
// The error is ErrUnknown for an unknown Model or Pre, and ErrVocabulary.
func New(v *Vocabulary) (*Tokenizer, error) {
	s, err := check(v)
	if err != nil {
		return nil, err
	}
	c := complete(v)
	if t := opens(c); t != nil {
		return t, nil
	}
	r := &rules{of: c, split: s, ids: make(map[string]int32, len(c.Tokens)), unk: -1, words: true}
	if c.UNK != c.BOS && c.UNK != c.EOS {
		r.unk = c.UNK
	}
	t := &Tokenizer{name: nameOf(c), eot: c.EOS, rules: r, vocab: &vocabulary{start: make([]uint32, 1, len(c.Tokens)+1)}}
	if c.AddBOS {
		t.begin = []int32{c.BOS}
	}
	t.learn()
	if c.Model == modelLlama {
		r.prefix, r.rank = c.AddSpacePrefix, ranksOf(c.Scores)
		return t, nil
	}
	if err := r.learnMerges(); err != nil {
		return nil, err
	}
	return t, nil
}

// complete returns a copy of v with what it may leave out, and without what its
// model does not read.
func complete(v *Vocabulary) *Vocabulary {
	c := *v
	c.Tokens, c.Types, c.Scores, c.Merges = slices.Clone(v.Tokens), slices.Clone(v.Types), slices.Clone(v.Scores), slices.Clone(v.Merges)
	if len(c.Types) == 0 {
		c.Types = make([]int32, len(c.Tokens))
		for i, s := range c.Tokens {
			c.Types[i] = TokenNormal
			if _, ok := byteToken(s); ok && c.Model == modelLlama {
				c.Types[i] = TokenByte
			}
		}
	}
	if c.Model != modelLlama {
		c.Scores, c.AddSpacePrefix = nil, false
		return &c
	}
	c.Merges, c.Pre = nil, ""
	if len(c.Scores) == 0 {
		c.Scores = make([]float32, len(c.Tokens))
	}
	return &c
}

// opens returns the tokenizer of Open whose vocabulary c is, or nil.
func opens(c *Vocabulary) *Tokenizer {
	n := len(c.Tokens)
	eot := int32(n - 1)
	if c.Model != modelGPT2 || c.Pre != "gpt-2" || n < MinVocab || n > MaxVocab || c.Tokens[n-1] != EndOfText {
		return nil
	}
	if c.EOS != eot && c.EOS != -1 || c.BOS != eot && c.BOS != -1 {
		return nil
	}
	t, err := Open("gpt2:" + strconv.Itoa(n))
	if err != nil {
		return nil
	}
	for id, s := range c.Tokens[:n-1] {
		if s != printable(t.vocab.token(int32(id))) {
			return nil
		}
	}
	if own, err := t.Vocabulary(); err != nil || !slices.Equal(own.Types, c.Types) || !slices.Equal(own.Merges, c.Merges) {
		return nil
	}
	return t
}

// endings are control tokens by their names, which some files give another
// type: </s> is user-defined in Phi-3's. llama.cpp knows them in the same way.
var endings = map[string]bool{
	EndOfText: true, "</s>": true, "<|end_of_text|>": true, "<|eot_id|>": true, "<|eom_id|>": true,
	"<|im_end|>": true, "<|end|>": true, "<end_of_turn>": true, "<EOT>": true,
}

// learn fills the tables of the tokens.
func (t *Tokenizer) learn() {
	r := t.rules
	for i := range r.bytes {
		r.bytes[i] = -1
	}
	var user []string
	var userIDs []int32
	for i, s := range r.of.Tokens {
		id, kind := int32(i), r.of.Types[i]
		if endings[s] {
			kind = TokenControl
		}
		text, found := s, s
		switch kind {
		case TokenNormal:
			text, found = r.textOf(s)
		case TokenUserDefined:
			if s != "" {
				user, userIDs = append(user, s), append(userIDs, id)
			}
			if r.of.Model == modelGPT2 {
				found = ""
			}
		case TokenByte:
			b, _ := byteToken(s)
			text, found = string([]byte{b}), ""
			if r.of.Model == modelLlama {
				r.setByte(b, id)
			}
		default:
			text, found = "", ""
		}
		t.vocab.add(text)
		r.admit(found, id)
	}
	r.user = newUserTokens(user, userIDs)
	for b := range r.bytes {
		if id, ok := r.ids[string([]byte{byte(b)})]; ok {
			r.setByte(byte(b), id)
		}
	}
}

// admit makes id the token of a text, which is "" where no text makes it.
func (r *rules) admit(text string, id int32) {
	if _, ok := r.ids[text]; ok || text == "" {
		return
	}
	r.ids[text] = id
	r.longest = max(r.longest, len(text))
	r.words = r.words && isWord(text)
}

func (r *rules) setByte(b byte, id int32) {
	if r.bytes[b] < 0 {
		r.bytes[b] = id
	}
}

// textOf returns the text of a normal token and what it is found by, "" if it
// is not.
func (r *rules) textOf(s string) (text, found string) {
	if r.of.Model == modelLlama {
		return strings.ReplaceAll(s, space, " "), s
	}
	if raw, ok := unprintable(s); ok {
		return raw, raw
	}
	return s, ""
}

// learnMerges fills the table of the merges.
func (r *rules) learnMerges() error {
	normal := make(map[string]int32, len(r.of.Tokens)) // in the alphabet
	for i, s := range r.of.Tokens {
		if _, ok := normal[s]; !ok && r.of.Types[i] == TokenNormal {
			normal[s] = int32(i)
		}
	}
	r.merges = make(map[uint64]merged, len(r.of.Merges))
	var both []byte
	for i, m := range r.of.Merges {
		left, right, ok := strings.Cut(m, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return vocabularyError("merge %d %q is not two tokens with a space between them", i, m)
		}
		both = append(append(both[:0], left...), right...)
		a, okA := normal[left]
		b, okB := normal[right]
		made, ok := normal[string(both)]
		if !okA || !okB || !ok {
			return vocabularyError("merge %d %q: its parts or its result are no normal tokens", i, m)
		}
		key := pairKey(a, b)
		if _, ok := r.merges[key]; !ok {
			r.merges[key] = merged{rank: int32(i), id: made}
		}
	}
	return nil
}

// nameOf is the name of a complete vocabulary: the digest of its model and split,
// its tokens with type and score, its merges and its special ids. Strings go
// in behind their length, numbers as little-endian u32.
func nameOf(c *Vocabulary) string {
	h := sha256.New()
	var buf []byte
	num := func(n uint32) { buf = binary.LittleEndian.AppendUint32(buf, n) }
	str := func(s string) { num(uint32(len(s))); buf = append(buf, s...) }
	flush := func() { h.Write(buf); buf = buf[:0] }
	str(c.Model)
	str(c.Pre)
	num(uint32(len(c.Tokens)))
	for i, s := range c.Tokens {
		str(s)
		num(uint32(c.Types[i]))
		if c.Scores != nil {
			num(math.Float32bits(c.Scores[i]))
		}
		flush()
	}
	num(uint32(len(c.Merges)))
	for _, s := range c.Merges {
		str(s)
		flush()
	}
	for _, id := range []int32{c.BOS, c.EOS, c.UNK, c.PAD} {
		num(uint32(id))
	}
	for _, on := range []bool{c.AddBOS, c.AddEOS, c.AddSpacePrefix} {
		if on {
			num(1)
		} else {
			num(0)
		}
	}
	flush()
	return fmt.Sprintf("gguf:%x", h.Sum(nil)[:6])
}
