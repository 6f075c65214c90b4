package tokenizer

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"
)

// space is what a SentencePiece vocabulary writes for a space: U+2581.
const space = "\u2581"

// rules are how the vocabulary of a file encodes. Its tables are Go's maps,
// whose seeds keep a file from choosing tokens that collide.
type rules struct {
	of      *Vocabulary
	split   split             // of model "gpt2"; no stages where pieces are SentencePiece's
	ids     map[string]int32  // normal and user-defined tokens: by bytes, or by text with U+2581
	merges  map[uint64]merged // of model "gpt2", by the ids of the pair
	rank    []int32           // of model "llama", by id: the least has the highest score
	bytes   [256]int32        // -1: no token
	unk     int32             // for a byte or character without a token; -1: none
	user    *userTokens
	prefix  bool // a space goes before a text
	words   bool // no token has U+2581 behind another character
	longest int
}

type merged struct{ rank, id int32 }

func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// encodeText is Encode for vocabularies of files. text is valid UTF-8.
func (t *Tokenizer) encodeText(dst []int32, text []byte) []int32 {
	r := t.rules
	if r.user == nil {
		return t.encodePlain(dst, text, r.prefix)
	}
	from, first := 0, true // first: of the text, or behind a user-defined token
	for _, f := range r.user.find(text) {
		if from < f.at {
			dst = t.encodePlain(dst, text[from:f.at], first && r.prefix)
		}
		dst, from, first = append(dst, f.id), f.end, true
	}
	return t.encodePlain(dst, text[from:], first && r.prefix)
}

// encodePlain encodes text without user-defined tokens.
func (t *Tokenizer) encodePlain(dst []int32, text []byte, prefix bool) []int32 {
	switch {
	case len(text) == 0:
		return dst
	case len(t.rules.split.stages) > 0:
		return t.encodeStages(dst, text, t.rules.split.stages)
	}
	escaped := make([]byte, 0, len(text)+len(text)/2+len(space))
	if prefix {
		escaped = append(escaped, space...)
	}
	for _, b := range text {
		if b == ' ' {
			escaped = append(escaped, space...)
		} else {
			escaped = append(escaped, b)
		}
	}
	for len(escaped) > 0 {
		n := len(escaped)
		if t.rules.words {
			n = nextWord(escaped)
		}
		dst = t.encodeForeign(dst, escaped[:n])
		escaped = escaped[n:]
	}
	return dst
}

func (t *Tokenizer) encodeStages(dst []int32, text []byte, stages []stage) []int32 {
	for len(text) > 0 {
		n := stages[0](text)
		if len(stages) > 1 {
			dst = t.encodeStages(dst, text[:n], stages[1:])
		} else {
			dst = t.encodeForeign(dst, text[:n])
		}
		text = text[n:]
	}
	return dst
}

// nextWord returns the length of the U+2581 that text begins with and of what
// follows them up to the next. No merge reaches beyond where no token does, so
// words are as good as the text, and the cache knows most of them.
func nextWord(text []byte) int {
	n := 0
	for bytes.HasPrefix(text[n:], []byte(space)) {
		n += len(space)
	}
	if end := bytes.Index(text[n:], []byte(space)); end >= 0 {
		return n + end
	}
	return len(text)
}

// encodeForeign appends the ids of one piece.
func (t *Tokenizer) encodeForeign(dst []int32, piece []byte) []int32 {
	if len(piece) > longPiece {
		return t.rules.encode(dst, piece)
	}
	h := hashPiece(piece)
	if ids := t.cache.find(piece, h); ids != nil {
		return append(dst, ids...)
	}
	ids := t.rules.encode(nil, piece)
	if len(ids) > 0 {
		t.cache.add(piece, h, ids)
	}
	return append(dst, ids...)
}

func (r *rules) encode(dst []int32, piece []byte) []int32 {
	if r.split.whole {
		if id := r.id(piece); id >= 0 {
			return append(dst, id)
		}
	}
	m := newMerger(piece)
	if r.rank != nil {
		return r.mergeByScore(dst, m)
	}
	return r.mergeByList(dst, m)
}

// mergeByList is a BPE with a list of merges.
func (r *rules) mergeByList(dst []int32, m *merger) []int32 {
	m.merges, m.id, m.made = r.merges, make([]int32, len(m.piece)), make([]int32, len(m.piece))
	for i, b := range m.piece {
		m.add(i, 1)
		m.id[i] = r.bytes[b]
	}
	m.merge()
	for at := int32(0); int(at) < len(m.piece); at = m.next[at] {
		if id := m.id[at]; id >= 0 {
			dst = append(dst, id)
		} else {
			dst = r.fallback(dst, m.piece[at:at+1])
		}
	}
	return dst
}

// mergeByScore is SentencePiece's BPE: any two parts whose text is a token's may
// merge, the highest score first (Kudo and Richardson 2018; llm_tokenizer_spm of
// llama.cpp).
func (r *rules) mergeByScore(dst []int32, m *merger) []int32 {
	m.rankOf = func(text []byte) int32 {
		if id := r.id(text); id >= 0 {
			return r.rank[id]
		}
		return -1
	}
	for at := 0; at < len(m.piece); {
		_, n := utf8.DecodeRune(m.piece[at:])
		m.add(at, n)
		at += n
	}
	m.merge()
	for at := int32(0); int(at) < len(m.piece); at = m.next[at] {
		part := m.piece[at:m.next[at]]
		if id := r.id(part); id >= 0 {
			dst = append(dst, id)
		} else {
			dst = r.fallback(dst, part)
		}
	}
	return dst
}

// id returns the id of a text, or -1.
func (r *rules) id(text []byte) int32 {
	if len(text) <= r.longest {
		if id, ok := r.ids[string(text)]; ok {
			return id
		}
	}
	return -1
}

// fallback appends what stands for a byte or a character that is no token: the
// tokens of its bytes, or if one is missing the unknown token, or nothing.
func (r *rules) fallback(dst []int32, char []byte) []int32 {
	n := len(dst)
	for _, b := range char {
		if r.bytes[b] < 0 {
			dst = dst[:n]
			if r.unk >= 0 {
				dst = append(dst, r.unk)
			}
			return dst
		}
		dst = append(dst, r.bytes[b])
	}
	return dst
}

// decodeStart appends the first ids of a text up to the first that has text of
// its own, whose space is left away if it was put there, and returns the others.
func (t *Tokenizer) decodeStart(dst []byte, ids []int32) ([]byte, []int32) {
	for i, id := range ids {
		if !t.vocab.has(id) {
			return dst, ids[i:]
		}
		text := t.vocab.token(id)
		if len(text) == 0 {
			continue
		}
		if text[0] == ' ' && t.rules.of.Types[id] == TokenNormal {
			return append(dst, text[1:]...), ids[i+1:]
		}
		return dst, ids[i:]
	}
	return dst, nil
}

// ranksOf returns the rank of each score, the least for the highest and equal
// for equal ones. There is no NaN among them.
func ranksOf(scores []float32) []int32 {
	sorted := slices.Clone(scores)
	slices.Sort(sorted)
	ranks := make([]int32, len(scores))
	for i, s := range scores {
		first, _ := slices.BinarySearch(sorted, s)
		ranks[i] = int32(len(sorted) - 1 - first)
	}
	return ranks
}

// isWord reports whether U+2581 stands only at the start of a token.
func isWord(token string) bool { return !strings.Contains(strings.TrimLeft(token, space), space) }
