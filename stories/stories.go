// Package stories holds the trained model that ships with tern: a small
// ternary model that writes stories. MODEL_CARD.md beside this file says what
// it was trained on, how, and how good it is.
package stories

import (
	"bytes"
	"embed"
	"io/fs"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/gguf"
)

// The pattern matches the card and the model, and still matches the card while
// a new model is being made.
//
//go:embed [Mm][Oo][Dd]*
var files embed.FS

// ErrMissing is returned by a program that was built without the model.
var ErrMissing = errors.New("this program was built without a trained model")

// Open returns the model, a GGUF file.
func Open() (*gguf.File, error) { return open(files) }

func open(files fs.FS) (*gguf.File, error) {
	data, err := fs.ReadFile(files, "model.gguf")
	if err != nil {
		return nil, errors.WithHint(ErrMissing, "name a model: tern generate --model FILE.gguf; tern train makes one in minutes")
	}
	f, err := gguf.Read(bytes.NewReader(data), int64(len(data)))
	return f, errors.Wrap(err, "the embedded model")
}

// Card returns the model card, Markdown.
func Card() string {
	text, _ := fs.ReadFile(files, "MODEL_CARD.md") // the pattern needs it to compile
	return string(text)
}
