package huggingface

import (
	"encoding/json"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/tokenizer"
)

const (
	space      = "\u2581"    // SentencePiece's mark of a space
	addedScore = -1000       // score of tokens that no merge makes, as llama.cpp's converter has it
	maxMerges  = 4 * 1 << 20 // entries of merges
)

// tokenizerFile is a tokenizer.json: a vocabulary and its tokens by text.
type tokenizerFile struct {
	v     tokenizer.Vocabulary
	ids   map[string]int32
	added []addedToken
	// decided says that a post-processor says what AddBOS and AddEOS are; bos
	// and eos are the ids that it adds, or -1.
	decided  bool
	bos, eos int32
}

// addedToken is a token outside the merges.
type addedToken struct {
	ID      int64  `json:"id"`
	Content string `json:"content"`
	Special bool   `json:"special"`
}

// rawTokenizer are the parts of the file.
type rawTokenizer struct {
	parts map[string]json.RawMessage
	model map[string]json.RawMessage
}

// ParseTokenizer reads a tokenizer.json with a model of the type BPE.
//
// One whose text goes through ByteLevel becomes Model "gpt2", its split into
// pieces the name that llama.cpp has for it. The normalizer NFC, of some of
// those, is not applied by tern, as by llama.cpp.
//
// One with byte_fallback and spaces written as U+2581, LLaMA 2's, becomes Model
// "llama". Such a file has no scores; a token's is minus the place of the first
// merge that makes it, which orders merges as the file does. It is what
// SentencePiece's BPE trainer gives, up to a constant. (llama.cpp's converter
// gives all tokens -1000 where there is no tokenizer.model.)
//
// BOS and EOS come from the post-processor where it names them and are else
// -1. Tokens that special marks are of type control, other added ones user
// defined; ids that are no token are "[PADn]" of type unused. Errors are
// ErrFormat and ErrUnsupported.
func ParseTokenizer(data []byte) (*tokenizer.Vocabulary, error) {
	t, err := parseTokenizer(data)
	if err != nil {
		return nil, err
	}
	return &t.v, nil
}

func parseTokenizer(data []byte) (*tokenizerFile, error) {
	if len(data) > maxTokenizer {
		return nil, malformed("tokenizer.json has %d bytes, at most %d are read", len(data), maxTokenizer)
	}
	raw, err := splitTokenizer(data)
	if err != nil {
		return nil, err
	}
	t := &tokenizerFile{v: tokenizer.Vocabulary{BOS: -1, EOS: -1, UNK: -1, PAD: -1}, ids: map[string]int32{}, bos: -1, eos: -1}
	steps := []func(rawTokenizer) error{t.readKind, t.readVocab, t.readAdded, t.readMerges, t.readTypes, t.readTemplate}
	for _, step := range steps {
		if err := step(raw); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// splitTokenizer takes the file apart.
func splitTokenizer(data []byte) (rawTokenizer, error) {
	f := parseFields("tokenizer.json", data)
	model := f.object("model")
	if kind := model.text("type", "BPE"); *f.err == nil && kind != "BPE" {
		return rawTokenizer{}, unsupported("tokenizer.json: model of type %q", kind)
	}
	if !model.has("vocab") || !model.has("merges") {
		model.fail("vocab", "vocab or merges are missing")
	}
	for _, name := range []string{"continuing_subword_prefix", "end_of_word_suffix"} {
		if s := model.text(name, ""); s != "" && *f.err == nil {
			return rawTokenizer{}, unsupported("tokenizer.json: model.%s %q", name, s)
		}
	}
	if model.number("dropout", 0, 0, 1) != 0 && *f.err == nil {
		return rawTokenizer{}, unsupported("tokenizer.json: model.dropout")
	}
	return rawTokenizer{f.members, model.members}, *f.err
}

// fields are the model's members.
func (r rawTokenizer) fields() fields {
	var err error
	return fields{"tokenizer.json: model.", r.model, &err}
}

// readKind finds out how text becomes pieces.
func (t *tokenizerFile) readKind(raw rawTokenizer) error {
	norm, err := parseComponent("normalizer", raw.parts["normalizer"])
	if err != nil {
		return err
	}
	pre, err := parseComponent("pre_tokenizer", raw.parts["pre_tokenizer"])
	if err != nil {
		return err
	}
	m := raw.fields()
	fallback, ignore := m.boolean("byte_fallback", false), m.boolean("ignore_merges", false)
	if *m.err != nil {
		return *m.err
	}
	if fallback {
		return t.readSpaces(norm, pre)
	}
	for _, c := range norm {
		if c.Type != "NFC" {
			return unsupported("tokenizer.json: normalizer %q", c.Type)
		}
	}
	t.v.Model = "gpt2"
	for _, c := range pre {
		if c.Type == "ByteLevel" && c.AddPrefixSpace != nil && *c.AddPrefixSpace {
			t.v.AddSpacePrefix = true
		}
	}
	t.v.Pre, err = splitOf(pre, ignore)
	return err
}

// readSpaces takes the normalizer and pre-tokenizer of LLaMA 2's kind, which
// write spaces as U+2581 and may put one first.
func (t *tokenizerFile) readSpaces(norm, pre []component) error {
	replaced := false
	t.v.Model, t.v.Pre = "llama", "default"
	for _, c := range append(norm, pre...) {
		switch {
		case c.Type == "Prepend" && c.Prepend == space:
			t.v.AddSpacePrefix = true
		case c.Type == "Replace" && c.Pattern.String == " " && c.Content == space:
			replaced = true
		case c.Type == "Metaspace" && c.Replacement == space:
			replaced = true
			t.v.AddSpacePrefix = c.AddPrefixSpace == nil || *c.AddPrefixSpace
			if c.PrependScheme != nil {
				t.v.AddSpacePrefix = *c.PrependScheme != "never"
			}
		default:
			return unsupported("tokenizer.json: %q with byte_fallback", c.Type)
		}
	}
	if !replaced {
		return unsupported("tokenizer.json: byte_fallback without U+2581 for spaces")
	}
	return nil
}

// put gives a text its id.
func (t *tokenizerFile) put(text string, id int64) error {
	switch {
	case id < 0 || id >= maxTokens:
		return malformed("tokenizer.json: token %q has the id %d", text, id)
	case text == "" || len(text) > maxText:
		return malformed("tokenizer.json: the text of token %d has %d bytes", id, len(text))
	}
	for int64(len(t.v.Tokens)) <= id {
		t.v.Tokens = append(t.v.Tokens, "")
	}
	if old := t.v.Tokens[id]; old != "" && old != text {
		return malformed("tokenizer.json: token %d is both %q and %q", id, old, text)
	}
	if old, ok := t.ids[text]; ok && int64(old) != id {
		return malformed("tokenizer.json: token %q is both %d and %d", text, old, id)
	}
	t.v.Tokens[id], t.ids[text] = text, int32(id)
	return nil
}

func (t *tokenizerFile) readVocab(raw rawTokenizer) error {
	err := eachMember(raw.model["vocab"], maxTokens, func(text string, d *json.Decoder) error {
		var id int64
		if err := d.Decode(&id); err != nil {
			return malformed("tokenizer.json: token %q: %v", text, err)
		}
		return t.put(text, id)
	})
	return errors.Wrap(err, "vocab")
}

func (t *tokenizerFile) readAdded(raw rawTokenizer) error {
	data := raw.parts["added_tokens"]
	if len(data) == 0 || string(data) == "null" {
		return nil
	}
	err := eachElement(data, maxTokens, func(d *json.Decoder) error {
		a := addedToken{ID: -1}
		if err := d.Decode(&a); err != nil {
			return malformed("tokenizer.json: %v", err)
		}
		t.added = append(t.added, a)
		return t.put(a.Content, a.ID)
	})
	return errors.Wrap(err, "added_tokens")
}

// readMerges reads merges, "a b" or ["a", "b"] each.
func (t *tokenizerFile) readMerges(raw rawTokenizer) error {
	if t.v.Model == "llama" {
		t.v.Scores = make([]float32, len(t.v.Tokens))
	}
	made := map[int32]bool{}
	n := 0
	err := eachElement(raw.model["merges"], maxMerges, func(d *json.Decoder) error {
		a, b, err := pair(d)
		if err != nil {
			return errors.Wrapf(err, "merge %d", n)
		}
		_, aok := t.ids[a]
		_, bok := t.ids[b]
		id, ok := t.ids[a+b]
		if !aok || !bok || !ok {
			return malformed("tokenizer.json: merge %d, %q and %q: one of them or both together is no token", n, a, b)
		}
		if t.v.Model == "gpt2" {
			t.v.Merges = append(t.v.Merges, a+" "+b)
		} else if !made[id] {
			made[id], t.v.Scores[id] = true, -float32(n)
		}
		n++
		return nil
	})
	return errors.Wrap(err, "merges")
}

// pair reads one merge.
func pair(d *json.Decoder) (a, b string, err error) {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return "", "", malformed("tokenizer.json: %v", err)
	}
	if len(raw) > 12*maxText {
		return "", "", malformed("tokenizer.json: a merge of %d bytes", len(raw))
	}
	if raw[0] == '[' {
		var list []string
		if err := json.Unmarshal(raw, &list); err != nil || len(list) != 2 {
			return "", "", malformed("tokenizer.json: %s is no pair of texts", short(raw))
		}
		return list[0], list[1], nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil || strings.Count(text, " ") != 1 {
		return "", "", malformed("tokenizer.json: %s is not two texts with a space between", short(raw))
	}
	a, b, _ = strings.Cut(text, " ")
	return a, b, nil
}

// readTypes tells the kinds of tokens apart and fills holes.
func (t *tokenizerFile) readTypes(raw rawTokenizer) error {
	m := raw.fields()
	unk := m.text("unk_token", "")
	if *m.err != nil {
		return *m.err
	}
	if len(t.v.Tokens) == 0 {
		return malformed("tokenizer.json: no tokens")
	}
	t.v.Types = make([]int32, len(t.v.Tokens))
	for id, text := range t.v.Tokens {
		switch {
		case text == "":
			t.v.Tokens[id], t.v.Types[id] = padName(id), tokenizer.TokenUnused
		case t.v.Model == "llama" && isByte(text):
			t.v.Types[id] = tokenizer.TokenByte
		default:
			t.v.Types[id] = tokenizer.TokenNormal
		}
	}
	for _, a := range t.added {
		addTo(&t.v, a)
	}
	if id, ok := t.ids[unk]; ok && unk != "" {
		t.v.UNK = id
		if t.v.Model == "llama" {
			t.v.Types[id] = tokenizer.TokenUnknown
		}
	}
	return nil
}
