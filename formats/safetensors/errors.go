package safetensors

import "github.com/cockroachdb/errors"

// The errors of this package; test for them with errors.Is.
var (
	// ErrFormat reports bytes that are no well-formed safetensors file, or
	// tensors that cannot be written as one.
	ErrFormat = errors.New("safetensors: malformed file")
	// ErrNotFound reports a tensor that a file lacks.
	ErrNotFound = errors.New("safetensors: not found")
	// ErrType reports a tensor of an encoding that package tensor lacks.
	ErrType = errors.New("safetensors: wrong type")
)

// malformed returns an ErrFormat that says what is wrong.
func malformed(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, format, args...),
		"the file is damaged, cut short or no safetensors file: compare its size and checksum with the original")
}

// unwritable returns an ErrFormat about what the caller wants to write.
func unwritable(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, format, args...), "fix the tensor before writing; the file is not complete")
}
