package huggingface

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/tokenizer"
)

// Vocabulary reads the directory's tokenizer; see ReadVocabulary.
func (d *Dir) Vocabulary() (*tokenizer.Vocabulary, error) {
	v, err := ReadVocabulary(d.path, d.Config)
	return v, errors.Wrapf(err, "read tokenizer of %s", d.path)
}

// ReadVocabulary reads the tokenizer of a directory for a model of a
// configuration: tokenizer.model (ParseSentencePiece), which alone has scores,
// else tokenizer.json (ParseTokenizer). A tokenizer.model of another kind, such
// as LLaMA 3's, is passed over if there is a tokenizer.json.
//
// Whether a text begins with BOS and ends with EOS is said by the
// post-processor of tokenizer.json, else by tokenizer_config.json, else by the
// kind of tokenizer; which ids these are by the post-processor where it adds
// them, else by tokenizer_config.json, config.json, the tokenizer, the first
// that knows. Added tokens of tokenizer.model come from added_tokens.json,
// tokenizer_config.json and tokenizer.json. The vocabulary gets the model's
// size: ids that are missing are "[PADn]" of type unused, and added tokens
// beyond it are dropped. Errors are ErrNotFound, ErrFormat, ErrUnsupported.
func ReadVocabulary(dir string, c *Config) (*tokenizer.Vocabulary, error) {
	s, err := readSettings(dir)
	if err != nil {
		return nil, err
	}
	file, jsonErr := readTokenizerJSON(dir)
	v, err := readSentencePiece(dir)
	switch {
	case err == nil:
		if v, err = extend(dir, v, s, file); err != nil {
			return nil, err
		}
	case jsonErr == nil:
		v = &file.v
	case errors.Is(jsonErr, ErrNotFound):
		return nil, err
	default:
		return nil, jsonErr
	}
	if file == nil || !file.decided {
		v.AddBOS, v.AddEOS = s.addBOS(v.AddBOS), s.addEOS(v.AddEOS)
	}
	if err := resize(v, c.VocabSize); err != nil {
		return nil, err
	}
	setIDs(v, s, c, file)
	return v, nil
}

func readTokenizerJSON(dir string) (*tokenizerFile, error) {
	data, err := readBounded(filepath.Join(dir, "tokenizer.json"), maxTokenizer)
	if err != nil {
		return nil, err
	}
	return parseTokenizer(data)
}

func readSentencePiece(dir string) (*tokenizer.Vocabulary, error) {
	data, err := readBounded(filepath.Join(dir, "tokenizer.model"), maxTokenizer)
	if errors.Is(err, ErrNotFound) {
		return nil, errors.WithHint(err, "copy tokenizer.json or tokenizer.model of the model into its directory")
	}
	if err != nil {
		return nil, err
	}
	return ParseSentencePiece(data)
}

// extend adds to a tokenizer.model what stands in the files beside it.
func extend(dir string, v *tokenizer.Vocabulary, s *settings, file *tokenizerFile) (*tokenizer.Vocabulary, error) {
	added, err := readAddedTokens(dir)
	if err != nil {
		return nil, err
	}
	added = append(added, s.added...)
	if file != nil {
		added = append(added, file.added...)
		if file.decided {
			v.AddBOS, v.AddEOS = file.v.AddBOS, file.v.AddEOS
		}
	}
	v.AddSpacePrefix = s.addPrefix(v.AddSpacePrefix)
	for _, a := range added {
		if a.ID < 0 || a.ID >= maxTokens || a.Content == "" || len(a.Content) > maxText {
			return nil, malformed("an added token has the id %d and a text of %d bytes", a.ID, len(a.Content))
		}
		addTo(v, a)
	}
	return v, nil
}

// addTo makes an added token one of the vocabulary's; both are checked. What
// the vocabulary knows as more than ordinary text stays that.
func addTo(v *tokenizer.Vocabulary, a addedToken) {
	pad(v, int(a.ID)+1)
	special := []int32{tokenizer.TokenUnknown, tokenizer.TokenControl, tokenizer.TokenByte}
	if v.Tokens[a.ID] == a.Content && slices.Contains(special, v.Types[a.ID]) {
		return
	}
	text, kind := a.Content, int32(tokenizer.TokenUserDefined)
	if a.Special {
		kind = tokenizer.TokenControl
	} else if v.Model == "llama" { // found in a text before its spaces are replaced
		text = strings.ReplaceAll(text, space, " ")
	}
	v.Tokens[a.ID], v.Types[a.ID] = text, kind
	if v.Model == "llama" {
		v.Scores[a.ID] = addedScore
	}
}

// pad grows a vocabulary to n tokens with ones that no text becomes.
func pad(v *tokenizer.Vocabulary, n int) {
	for id := len(v.Tokens); id < n; id++ {
		v.Tokens, v.Types = append(v.Tokens, padName(id)), append(v.Types, tokenizer.TokenUnused)
		if v.Model == "llama" {
			v.Scores = append(v.Scores, addedScore)
		}
	}
}

func padName(id int) string { return fmt.Sprintf("[PAD%d]", id) }

// resize gives a vocabulary the model's size.
func resize(v *tokenizer.Vocabulary, n int) error {
	pad(v, n)
	for id := n; id < len(v.Tokens); id++ {
		if k := v.Types[id]; k == tokenizer.TokenNormal || k == tokenizer.TokenByte {
			return malformed("the tokenizer has %d tokens, of which %d is %q; vocab_size of config.json is %d", len(v.Tokens), id, v.Tokens[id], n)
		}
	}
	v.Tokens, v.Types = v.Tokens[:n], v.Types[:n]
	if v.Model == "llama" {
		v.Scores = v.Scores[:n]
	}
	return nil
}

// setIDs fills in the special ids. A text cannot begin or end with what there
// is not.
func setIDs(v *tokenizer.Vocabulary, s *settings, c *Config, file *tokenizerFile) {
	bos, eos := int32(-1), int32(-1) // of the post-processor
	if file != nil {
		bos, eos = file.bos, file.eos
	}
	end := int32(-1)
	if len(c.EOS) > 0 {
		end = c.EOS[0]
	}
	v.BOS = first(bos, find(v, s.bos), c.BOS, v.BOS)
	v.EOS = first(eos, find(v, s.eos), end, v.EOS)
	v.UNK, v.PAD = first(v.UNK, find(v, s.unk)), first(find(v, s.pad), c.PAD, v.PAD)
	for _, id := range []*int32{&v.BOS, &v.EOS, &v.UNK, &v.PAD} {
		if int(*id) >= len(v.Tokens) {
			*id = -1
		}
	}
	v.AddBOS, v.AddEOS = v.AddBOS && v.BOS >= 0, v.AddEOS && v.EOS >= 0
}

// first returns the first of ids that is one, or -1.
func first(ids ...int32) int32 {
	for _, id := range ids {
		if id >= 0 {
			return id
		}
	}
	return -1
}

// find returns the id of a token, or -1. Special tokens are the last of most
// vocabularies.
func find(v *tokenizer.Vocabulary, text string) int32 {
	if text == "" {
		return -1
	}
	for id := len(v.Tokens) - 1; id >= 0; id-- {
		if v.Tokens[id] == text {
			return int32(id)
		}
	}
	return -1
}
