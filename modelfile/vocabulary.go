package modelfile

import (
	"fmt"
	"slices"

	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/tokenizer"
)

const ggmlTokenizer = "tokenizer.ggml."

// readVocabulary returns the vocabulary in the metadata, nil where there is
// none.
func readVocabulary(meta gguf.Metadata) (*tokenizer.Vocabulary, error) {
	if _, ok := meta.Get(ggmlTokenizer + "model"); !ok {
		return nil, nil
	}
	m := metadata{m: meta}
	v := &tokenizer.Vocabulary{
		Model:  m.string(ggmlTokenizer + "model"),
		Pre:    m.stringOr(ggmlTokenizer+"pre", "default"),
		Tokens: list(&m, "tokens", meta.Strings),
		Types:  list(&m, "token_type", meta.Int32s),
		Scores: list(&m, "scores", meta.Float32s),
		Merges: list(&m, "merges", meta.Strings),
	}
	// What llama.cpp takes where a key is missing.
	bpe := v.Model == "gpt2"
	def := func(spm, gpt2 int32) int32 {
		if bpe {
			return gpt2
		}
		return spm
	}
	v.BOS, v.EOS = m.id("bos", def(1, 11), v), m.id("eos", def(2, 11), v)
	v.UNK, v.PAD = m.id("unknown", def(0, -1), v), m.id("padding", -1, v)
	v.AddBOS = m.boolOr(ggmlTokenizer+"add_bos_token", !bpe || slices.Contains(beginWithBOS, v.Pre))
	v.AddEOS = m.boolOr(ggmlTokenizer+"add_eos_token", false)
	v.AddSpacePrefix = m.boolOr(ggmlTokenizer+"add_space_prefix", !bpe)
	return v, m.err
}

// list returns an array of the vocabulary, nil where it is missing.
func list[T any](m *metadata, name string, get func(string) ([]T, error)) []T {
	key := ggmlTokenizer + name
	return or(m, key, nil, func(string) []T {
		v, err := get(key)
		if m.err == nil {
			m.err = err
		}
		return v
	})
}

// beginWithBOS are the splits whose texts llama.cpp begins with BOS where the file
// does not say whether to.
var beginWithBOS = []string{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"}

// id returns the id of a special token: def, if there is such a token, where the
// key is missing, and -1 for none.
func (m *metadata) id(name string, def int32, v *tokenizer.Vocabulary) int32 {
	key := ggmlTokenizer + name + "_token_id"
	if _, ok := m.m.Get(key); !ok && int(def) >= len(v.Tokens) {
		return -1
	}
	return int32(m.intOr(key, int(def)))
}

func (m *metadata) boolOr(key string, def bool) bool { return or(m, key, def, m.bool) }

// vocabularyKeys are the vocabulary as ggml's gguf.md describes it; none for a
// model without one.
func (w *Weights) vocabularyKeys() ([]gguf.KV, error) {
	tok, err := w.Tokenizer()
	if err != nil {
		return nil, err
	}
	v, err := tok.Vocabulary()
	if err != nil {
		return nil, err
	}
	return keysOf(padded(v, w.Model.Vocab)), nil
}

// padded returns v with as many tokens as the embedding has rows: readers of
// files want the two to be equal.
func padded(v *tokenizer.Vocabulary, rows int) *tokenizer.Vocabulary {
	p := *v
	p.Tokens, p.Types, p.Scores = slices.Clone(v.Tokens), slices.Clone(v.Types), slices.Clone(v.Scores)
	for id := len(p.Tokens); id < rows; id++ {
		p.Tokens = append(p.Tokens, fmt.Sprintf("[PAD%d]", id))
		if p.Types != nil {
			p.Types = append(p.Types, tokenizer.TokenUnused)
		}
		if p.Scores != nil {
			p.Scores = append(p.Scores, 0)
		}
	}
	return &p
}

func keysOf(v *tokenizer.Vocabulary) []gguf.KV {
	kv := []gguf.KV{
		{Key: ggmlTokenizer + "model", Value: v.Model},
		{Key: ggmlTokenizer + "pre", Value: v.Pre},
		{Key: ggmlTokenizer + "tokens", Value: v.Tokens},
	}
	if v.Types != nil {
		kv = append(kv, gguf.KV{Key: ggmlTokenizer + "token_type", Value: v.Types})
	}
	if v.Scores != nil {
		kv = append(kv, gguf.KV{Key: ggmlTokenizer + "scores", Value: v.Scores})
	}
	if v.Merges != nil {
		kv = append(kv, gguf.KV{Key: ggmlTokenizer + "merges", Value: v.Merges})
	}
	for _, s := range []struct {
		name string
		id   int32
	}{{"bos", v.BOS}, {"eos", v.EOS}, {"unknown", v.UNK}, {"padding", v.PAD}} {
		if s.id >= 0 {
			kv = append(kv, gguf.KV{Key: ggmlTokenizer + s.name + "_token_id", Value: uint32(s.id)})
		}
	}
	kv = append(kv, gguf.KV{Key: ggmlTokenizer + "add_bos_token", Value: v.AddBOS})
	if v.AddEOS {
		kv = append(kv, gguf.KV{Key: ggmlTokenizer + "add_eos_token", Value: true})
	}
	if v.Model != "gpt2" {
		kv = append(kv, gguf.KV{Key: ggmlTokenizer + "add_space_prefix", Value: v.AddSpacePrefix})
	}
	return kv
}
