package main

import (
	"context"
	"io"
	"os"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/data/tinystories"
	"github.com/ternlm/tern/internal/regularfile"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/tokenizer"
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
func openText(ctx context.Context, path, tok, name string, embedded func() ([]byte, error)) (text, error) {
	if path != "" {
		t, err := data.OpenTokensAs(path, tok)
		if errors.Is(err, os.ErrNotExist) {
			err = errors.WithHint(err, "make a token file with tern data prepare, or leave the flag out to use the embedded stories")
		}
		return text{t, path}, err
	}
	raw, err := embedded()
	if err != nil {
		return text{}, err
	}
	t, err := data.TokenizeText(ctx, raw, tok)
	return text{t, name}, errors.Wrap(err, "tokenize the embedded stories")
}

func openTrainText(ctx context.Context, path, tok string) (text, error) {
	return openText(ctx, path, tok, embeddedTrain, tinystories.Train)
}

// openEvalText opens the text that w is evaluated on: the token file at path or,
// for a model whose tokenizer is in its file, the text at path.
func openEvalText(ctx context.Context, path string, w *modelfile.Weights) (text, error) {
	tok, err := w.Tokenizer()
	if err != nil {
		return text{}, err
	}
	if _, err := tokenizer.Size(tok.Name()); err == nil {
		return openValidText(ctx, path, tok.Name())
	}
	var raw []byte
	name := path
	switch {
	case path == "":
		raw, err = tinystories.Valid()
		name = embeddedValid
	case kindOf(path) == "tokens":
		err = usagef("name a text instead", "%s holds ids of another tokenizer than the model's, %s", path, tok.Name())
	default:
		raw, err = readText(path)
	}
	if err != nil {
		return text{}, err
	}
	t, err := data.TokenizeWith(ctx, raw, tok)
	return text{t, name}, errors.Wrapf(err, "tokenize %s", name)
}

// maxText bounds a text that is tokenized in memory, in bytes.
const maxText = 1 << 30

// readText reads a regular file.
func readText(path string) ([]byte, error) {
	f, size, err := regularfile.Open(path)
	if err != nil {
		return nil, errors.Wrap(err, "open the text")
	}
	defer f.Close()
	if size > maxText {
		return nil, usagef("name a part of it", "%s has %s bytes, more than %s", path, thousands(size), thousands(int64(maxText)))
	}
	raw, err := io.ReadAll(f)
	return raw, errors.Wrap(err, "read the text")
}

func openValidText(ctx context.Context, path, tok string) (text, error) {
	return openText(ctx, path, tok, embeddedValid, tinystories.Valid)
}
