package huggingface

import "github.com/cockroachdb/errors"

// The errors of this package; test for them with errors.Is.
var (
	// ErrFormat reports a file that is not what its name says, files that
	// disagree, or a model that the layout cannot hold.
	ErrFormat = errors.New("hugging face model: malformed")
	// ErrUnsupported reports a well-formed file of a kind that this package
	// does not read.
	ErrUnsupported = errors.New("hugging face model: not supported")
	// ErrNotFound reports a file or a tensor that a directory lacks.
	ErrNotFound = errors.New("hugging face model: not found")
)

// malformed returns an ErrFormat that says what is wrong.
func malformed(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, format, args...),
		"the file is damaged or was not written by transformers: compare it with the original")
}

// unsupported returns an ErrUnsupported that says of what.
func unsupported(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrUnsupported, format, args...),
		"models of types llama, mistral and bitnet with byte-level BPE or SentencePiece BPE tokenizers are read")
}

// unwritable returns an ErrFormat about what the caller wants to write.
func unwritable(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, format, args...), "fix the model before writing; the directory is not complete")
}
