package tokenizer

import (
	"encoding/binary"
	"math/bits"
	"sync"

	"github.com/cockroachdb/errors"
	"github.com/pkoukk/tiktoken-go"
	tiktoken_loader "github.com/pkoukk/tiktoken-go-loader"
)

// splitPattern is r50k_base's, which the library does not export.
const splitPattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

// gpt2Ranks loads the merges, rank by rank, from the copy that is linked in.
var gpt2Ranks = sync.OnceValues(func() ([]string, error) {
	byToken, err := tiktoken_loader.NewOfflineLoader().LoadTiktokenBpe("r50k_base.tiktoken")
	if err != nil {
		return nil, errors.Wrap(err, "load the vocabulary r50k_base")
	}
	ranks := make([]string, len(byToken))
	for token, rank := range byToken {
		if rank < 0 || rank >= len(ranks) || ranks[rank] != "" {
			return nil, errors.AssertionFailedf("r50k_base has no place for rank %d", rank)
		}
		ranks[rank] = token
	}
	if len(ranks) != MaxVocab-1 {
		return nil, errors.AssertionFailedf("r50k_base has %d ranks, not %d", len(ranks), MaxVocab-1)
	}
	return ranks, nil
})

// library returns the library's encoder of single pieces for the first size-1
// ranks. It is built at first use: 40 ms that most callers never pay.
func library(size int) func(piece []byte) []int32 {
	open := sync.OnceValue(func() *tiktoken.Tiktoken {
		ranks, err := gpt2Ranks()
		if err != nil {
			return nil // not reached: Open has returned this error
		}
		encoder := make(map[string]int, size-1)
		for rank, token := range ranks[:size-1] {
			encoder[token] = rank
		}
		special := map[string]int{EndOfText: size - 1}
		bpe, err := tiktoken.NewCoreBPE(encoder, special, splitPattern)
		if err != nil {
			panic(errors.AssertionFailedf("tiktoken refuses its own pattern: %v", err))
		}
		e := &tiktoken.Encoding{Name: "r50k_base", PatStr: splitPattern, MergeableRanks: encoder, SpecialTokens: special}
		return tiktoken.NewTiktoken(bpe, e, map[string]any{EndOfText: true})
	})
	return func(piece []byte) []int32 {
		ints := open().EncodeOrdinary(string(piece))
		ids := make([]int32, len(ints))
		for i, v := range ints {
			ids[i] = int32(v)
		}
		return ids
	}
}

// vocabulary finds tokens by id and ids by token. Its table is open addressed
// with linear probing, at most 40 % full.
type vocabulary struct {
	bytes   []byte
	start   []uint32 // token i is bytes[start[i]:start[i+1]]
	slots   []vocabSlot
	mask    uint64
	longest int
}

type vocabSlot struct {
	tag uint32 // high half of the hash
	id  int32  // id+1; 0 is empty
}

func newVocabulary(ranks []string) *vocabulary {
	size := 1 << bits.Len(uint(len(ranks)*5/2))
	v := &vocabulary{start: make([]uint32, 1, len(ranks)+1), slots: make([]vocabSlot, size), mask: uint64(size - 1)}
	for i, token := range ranks {
		v.add(token)
		h := hashPiece([]byte(token))
		at := h & v.mask
		for v.slots[at].id != 0 {
			at = (at + 1) & v.mask
		}
		v.slots[at] = vocabSlot{tag: uint32(h >> 32), id: int32(i + 1)}
	}
	return v
}

// add appends the next token's text, which find does not know of.
func (v *vocabulary) add(token string) {
	v.bytes = append(v.bytes, token...)
	v.start = append(v.start, uint32(len(v.bytes)))
	v.longest = max(v.longest, len(token))
}

func (v *vocabulary) size() int { return len(v.start) - 1 }

func (v *vocabulary) has(id int32) bool { return id >= 0 && int(id) < v.size() }

func (v *vocabulary) token(id int32) []byte { return v.bytes[v.start[id]:v.start[id+1]] }

// find returns the id of piece, whose hash is h, or -1.
func (v *vocabulary) find(piece []byte, h uint64) int32 {
	tag := uint32(h >> 32)
	for at := h & v.mask; ; at = (at + 1) & v.mask {
		s := v.slots[at]
		if s.id == 0 {
			return -1
		}
		if s.tag == tag && string(v.token(s.id-1)) == string(piece) {
			return s.id - 1
		}
	}
}

// rank returns the id of piece, or -1.
func (v *vocabulary) rank(piece []byte) int32 {
	if len(piece) > v.longest {
		return -1
	}
	return v.find(piece, hashPiece(piece))
}

// hashPiece mixes a piece of at least one byte, in the manner of wyhash. It
// need not resist an adversary: the vocabulary that is found by it is fixed
// (those of files are found by Go's maps), and the cache forgets.
func hashPiece(b []byte) uint64 {
	const k0, k1, k2 = 0xa0761d6478bd642f, 0xe7037ed1a0b428db, 0x8ebc6af09c88c6e3
	n := len(b)
	var x, y uint64
	switch {
	case n >= 8:
		x = binary.LittleEndian.Uint64(b)
		y = binary.LittleEndian.Uint64(b[n-8:])
		for i := 8; i+8 < n; i += 8 {
			hi, lo := bits.Mul64(x^k2, binary.LittleEndian.Uint64(b[i:])^k0)
			x = hi ^ lo
		}
	case n >= 4:
		x = uint64(binary.LittleEndian.Uint32(b))
		y = uint64(binary.LittleEndian.Uint32(b[n-4:]))
	case n > 0:
		x = uint64(b[0])<<16 | uint64(b[n>>1])<<8 | uint64(b[n-1])
	}
	hi, lo := bits.Mul64(x^k0^uint64(n)*k2, y^k1)
	return hi ^ lo
}
