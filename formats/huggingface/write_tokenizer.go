package huggingface

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ternlm/tern/tokenizer"
)

// encodeVocabulary puts tokenizer.json and tokenizer_config.json into files.
func encodeVocabulary(files map[string][]byte, v *tokenizer.Vocabulary, c *Config) error {
	if len(v.Tokens) != c.VocabSize {
		return unwritable("%d tokens for a model of %d", len(v.Tokens), c.VocabSize)
	}
	var err error
	if files["tokenizer.json"], err = encodeTokenizer(v); err != nil {
		return err
	}
	files["tokenizer_config.json"], err = encodeSettings(v, c.MaxPositionEmbeddings)
	return err
}

// encodeTokenizer returns a tokenizer.json: of a byte-level BPE as GPT-2's and
// LLaMA 3's is written, or of a SentencePiece BPE as LLaMA 2's, whose merges
// are made from the scores. Control tokens become special added tokens, which
// readers of the file take from a text where tern does not.
func encodeTokenizer(v *tokenizer.Vocabulary) ([]byte, error) {
	ids, err := checkTokens(v)
	if err != nil {
		return nil, err
	}
	model := object{
		"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
		"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": ordered(v.Tokens),
	}
	if v.UNK >= 0 {
		model["unk_token"] = v.Tokens[v.UNK]
	}
	file := object{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": addedTokens(v),
		"post_processor": postProcessor(v), "model": model,
	}
	switch v.Model {
	case "gpt2":
		err = byteLevel(file, model, v)
	case "llama":
		model["byte_fallback"], model["fuse_unk"], model["merges"] = true, true, mergesByScore(v, ids)
		withSpaces(file, v.AddSpacePrefix)
	default:
		err = unwritable("no tokenizer.json is known for the tokenizer model %q", v.Model)
	}
	if err != nil {
		return nil, err
	}
	return encode(file)
}

// checkTokens returns the ids of the tokens by text.
func checkTokens(v *tokenizer.Vocabulary) (map[string]int32, error) {
	n := len(v.Tokens)
	if n == 0 || n > maxTokens || len(v.Types) != n || v.Model == "llama" && len(v.Scores) != n {
		return nil, unwritable("%d tokens with %d types and %d scores", n, len(v.Types), len(v.Scores))
	}
	for _, id := range []int32{v.BOS, v.EOS, v.UNK, v.PAD} {
		if int(id) >= n {
			return nil, unwritable("the special id %d is no token of %d", id, n)
		}
	}
	if v.AddBOS && v.BOS < 0 || v.AddEOS && v.EOS < 0 {
		return nil, unwritable("a text begins or ends with a token that there is not")
	}
	ids := make(map[string]int32, n)
	for id, text := range v.Tokens {
		if old, ok := ids[text]; ok {
			return nil, unwritable("token %q is both %d and %d", text, old, id)
		}
		if text == "" || !utf8.ValidString(text) {
			return nil, unwritable("token %d, %q, is empty or not UTF-8", id, text)
		}
		if v.Model == "llama" && v.Types[id] == tokenizer.TokenNormal && strings.Contains(text, " ") {
			return nil, unwritable("token %d, %q, has a plain space", id, text)
		}
		ids[text] = int32(id)
	}
	return ids, nil
}

// ordered is the JSON object of the ids of tokens, by id.
func ordered(tokens []string) json.RawMessage {
	var b bytes.Buffer
	for id, text := range tokens {
		b.WriteString(map[bool]string{true: "{", false: ","}[id == 0])
		b.Write(quote(text))
		b.WriteByte(':')
		b.Write(quote(id))
	}
	b.WriteByte('}')
	return b.Bytes()
}

// quote is the JSON of a text or number, without escapes for HTML.
func quote(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // texts and numbers have a JSON form, and a Buffer takes it
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func addedTokens(v *tokenizer.Vocabulary) []object {
	list := []object{}
	for id, kind := range v.Types {
		if kind == tokenizer.TokenControl || kind == tokenizer.TokenUserDefined || kind == tokenizer.TokenUnknown {
			list = append(list, object{
				"id": id, "content": v.Tokens[id], "special": kind != tokenizer.TokenUserDefined,
				"single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
			})
		}
	}
	return list
}

// postProcessor puts BOS before and EOS behind a text, as far as they are added.
func postProcessor(v *tokenizer.Vocabulary) object {
	specials := object{}
	sequence := func(id string, kind int) object { return object{"Sequence": object{"id": id, "type_id": kind}} }
	wrap := func(id string, kind int) (list []object) {
		add := func(token int32) {
			text := v.Tokens[token]
			specials[text] = object{"id": text, "ids": []int32{token}, "tokens": []string{text}}
			list = append(list, object{"SpecialToken": object{"id": text, "type_id": kind}})
		}
		if v.AddBOS {
			add(v.BOS)
		}
		list = append(list, sequence(id, kind))
		if v.AddEOS {
			add(v.EOS)
		}
		return list
	}
	single := wrap("A", 0)
	return object{
		"type": "TemplateProcessing", "single": single, "pair": slices.Concat(single, wrap("B", 1)), "special_tokens": specials,
	}
}

// byteLevel fills in what a byte-level BPE has.
func byteLevel(file, model object, v *tokenizer.Vocabulary) error {
	pre, ignore, err := preTokenizer(v.Pre)
	if err != nil {
		return err
	}
	if v.AddSpacePrefix {
		return unwritable("a byte-level BPE with a space before a text")
	}
	if v.Merges == nil {
		model["merges"] = []string{}
	} else {
		model["merges"] = v.Merges
	}
	model["ignore_merges"], file["pre_tokenizer"], file["normalizer"] = ignore, pre, nil
	file["decoder"] = object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}
	return nil
}

// withSpaces fills in what writes spaces as U+2581 and back.
func withSpaces(file object, prefix bool) {
	replace := func(from, to string) object {
		return object{"type": "Replace", "pattern": object{"String": from}, "content": to}
	}
	to := []object{replace(" ", space)}
	from := []object{replace(space, " "), {"type": "ByteFallback"}, {"type": "Fuse"}}
	if prefix {
		to = append([]object{{"type": "Prepend", "prepend": space}}, to...)
		from = append(from, object{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	file["normalizer"] = object{"type": "Sequence", "normalizers": to}
	file["pre_tokenizer"] = nil
	file["decoder"] = object{"type": "Sequence", "decoders": from}
}

// mergesByScore lists all ways to make an ordinary token from two, the token of
// the highest score first. It merges as SentencePiece does as long as no two
// tokens have one score.
func mergesByScore(v *tokenizer.Vocabulary, ids map[string]int32) []string {
	order := make([]int32, 0, len(v.Tokens))
	for id, kind := range v.Types {
		if kind == tokenizer.TokenNormal {
			order = append(order, int32(id))
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		switch x, y := v.Scores[a], v.Scores[b]; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	merges := []string{}
	for _, id := range order {
		text := v.Tokens[id]
		for cut := range text {
			a, aok := ids[text[:cut]]
			b, bok := ids[text[cut:]]
			if cut == 0 || !aok || !bok || v.Types[a] != tokenizer.TokenNormal || v.Types[b] != tokenizer.TokenNormal {
				continue
			}
			merges = append(merges, text[:cut]+" "+text[cut:])
		}
	}
	return merges
}

// encodeSettings returns tokenizer_config.json. The class takes all that it
// does from tokenizer.json.
func encodeSettings(v *tokenizer.Vocabulary, length int) ([]byte, error) {
	token := func(id int32) any {
		if id < 0 {
			return nil
		}
		return v.Tokens[id]
	}
	return encode(object{
		"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, "clean_up_tokenization_spaces": false,
		"add_bos_token": v.AddBOS, "add_eos_token": v.AddEOS,
		"bos_token": token(v.BOS), "eos_token": token(v.EOS), "unk_token": token(v.UNK), "pad_token": token(v.PAD),
	})
}
