package main

import (
	"context"
	"os"

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
func openText(ctx context.Context, path, tokenizer, name string, embedded func() ([]byte, error)) (text, error) {
	if path != "" {
		t, err := data.OpenTokensAs(path, tokenizer)
		if errors.Is(err, os.ErrNotExist) {
			err = errors.WithHint(err, "make a token file with tern data prepare, or leave the flag out to use the embedded stories")
		}
		return text{t, path}, err
	}
	raw, err := embedded()
	if err != nil {
		return text{}, err
	}
	t, err := data.TokenizeText(ctx, raw, tokenizer)
	return text{t, name}, errors.Wrap(err, "tokenize the embedded stories")
}

func openTrainText(ctx context.Context, path, tokenizer string) (text, error) {
	return openText(ctx, path, tokenizer, embeddedTrain, tinystories.Train)
}

func openValidText(ctx context.Context, path, tokenizer string) (text, error) {
	return openText(ctx, path, tokenizer, embeddedValid, tinystories.Valid)
}
