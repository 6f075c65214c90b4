package llama2c

import "github.com/cockroachdb/errors"

// The errors of this package; test for them with errors.Is.
var (
	// ErrFormat reports bytes that are no file of the format, or a model that
	// the format cannot hold.
	ErrFormat = errors.New("llama2.c: malformed file")
	// ErrNotFound reports a tensor that a file lacks.
	ErrNotFound = errors.New("llama2.c: not found")
)

// malformed returns an ErrFormat that says what is wrong.
func malformed(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, format, args...),
		"the file is damaged, cut short or of another format: compare its size and checksum with the original")
}

// unwritable returns an ErrFormat about what the caller wants to write.
func unwritable(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, format, args...), "nothing was written; the format holds plain LLaMA models in f32")
}
