package main

import (
	"fmt"

	"github.com/ternlm/tern/formats/gguf"
)

// specials are the control tokens at the end of a vocabulary; the first begins a
// text, the second ends it.
const specials = 256

// Values of tokenizer.ggml.token_type.
const (
	typeNormal  = int32(1)
	typeControl = int32(3)
)

// vocabulary are the keys of a byte-level BPE of n tokens, at least 512, that
// splits text as Llama 3 does: the bytes, all pairs of bytes, pairs of pairs of
// frequent letters, and control tokens. A merge has the rank of its token.
func vocabulary(n int) []gguf.KV {
	bytes := byteAlphabet()
	tokens := append(make([]string, 0, n), bytes[:]...)
	var merges []string
	merge := func(a, b string) {
		if len(tokens) < n-specials {
			tokens = append(tokens, a+b)
			merges = append(merges, a+" "+b)
		}
	}
	letters := letterPairs()
	for _, p := range letters {
		merge(p[0], p[1])
	}
	known := make(map[string]bool, len(tokens))
	for _, t := range tokens {
		known[t] = true
	}
	for _, a := range bytes {
		for _, b := range bytes {
			if !known[a+b] {
				merge(a, b)
			}
		}
	}
	for _, p := range letters {
		for _, q := range letters {
			merge(p[0]+p[1], q[0]+q[1])
		}
	}
	types := make([]int32, n)
	for i := range types {
		types[i] = typeNormal
		if i >= n-specials {
			types[i] = typeControl
			tokens = append(tokens, fmt.Sprintf("<|control_%d|>", i-(n-specials)))
		}
	}
	return []gguf.KV{
		{Key: "tokenizer.ggml.model", Value: "gpt2"},
		{Key: "tokenizer.ggml.pre", Value: "llama-bpe"},
		{Key: "tokenizer.ggml.tokens", Value: tokens},
		{Key: "tokenizer.ggml.token_type", Value: types},
		{Key: "tokenizer.ggml.merges", Value: merges},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(n - specials)},
		{Key: "tokenizer.ggml.eos_token_id", Value: uint32(n - specials + 1)},
		{Key: "tokenizer.ggml.add_bos_token", Value: true},
	}
}

// letterPairs are pairs of a space and English's letters, frequent ones first.
func letterPairs() (pairs [][2]string) {
	frequent := []rune("etaoinshrdlucmfwypvbgkjqxz")
	for _, b := range frequent {
		pairs = append(pairs, [2]string{string(rune(256 + ' ')), string(b)})
	}
	for _, a := range frequent {
		for _, b := range frequent {
			pairs = append(pairs, [2]string{string(a), string(b)})
		}
	}
	return pairs
}

// byteAlphabet are the characters that stand for bytes in a byte-level BPE
// (GPT-2's bytes_to_unicode), by byte: those that print stand for themselves, the
// others, in order, for 256 and on.
func byteAlphabet() (alphabet [256]string) {
	next := rune(256)
	for b := range alphabet {
		r := rune(b)
		if prints := b >= '!' && b <= '~' || b >= 0xA1 && b != 0xAD; !prints {
			r = next
			next++
		}
		alphabet[b] = string(r)
	}
	return alphabet
}
