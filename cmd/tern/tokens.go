package main

import (
	"bytes"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/data/tinystories"
)

// text is a token sequence with the words that describe it.
type text struct {
	*data.Tokens
	Name string
}

// embeddedName describes the stories that ship with tern.
const (
	embeddedTrain = "TinyStories sample (embedded, CDLA-Sharing-1.0)"
	embeddedValid = "TinyStories validation sample (embedded, CDLA-Sharing-1.0)"
)

// openText opens the token file at path for a tokenizer, or tokenizes the
// embedded text when path is empty.
func openText(path, tokenizer, name string, embedded func() ([]byte, error)) (text, error) {
	if path != "" {
		t, err := data.OpenTokensAs(path, tokenizer)
		return text{t, path}, err
	}
	raw, err := embedded()
	if err != nil {
		return text{}, err
	}
	t, err := tokenize(raw, tokenizer)
	return text{t, name}, errors.Wrap(err, "tokenize the embedded stories")
}

// tokenize turns text with <|endoftext|> between documents into what
// data.Prepare makes of it.
func tokenize(raw []byte, tokenizer string) (*data.Tokens, error) {
	tok, err := data.OpenTokenizer(tokenizer)
	if err != nil {
		return nil, err
	}
	ids := make([]uint16, 0, len(raw)/3)
	var document []int32
	for story := range bytes.SplitSeq(raw, []byte(data.EndOfText)) {
		if story = bytes.TrimSpace(story); len(story) == 0 {
			continue
		}
		document = tok.EncodeDocument(document[:0], story)
		for _, id := range document {
			ids = append(ids, uint16(id))
		}
	}
	return data.NewTokens(ids, tokenizer)
}

func openTrainText(path, tokenizer string) (text, error) {
	return openText(path, tokenizer, embeddedTrain, tinystories.Train)
}

func openValidText(path, tokenizer string) (text, error) {
	return openText(path, tokenizer, embeddedValid, tinystories.Valid)
}
