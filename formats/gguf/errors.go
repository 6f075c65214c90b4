package gguf

import "github.com/cockroachdb/errors"

// The errors of this package; test for them with errors.Is.
var (
	// ErrFormat reports bytes that are no well-formed GGUF file, or a file
	// that a caller asked to write and no reader would accept.
	ErrFormat = errors.New("gguf: malformed file")
	// ErrNotFound reports a metadata key or a tensor that a file lacks.
	ErrNotFound = errors.New("gguf: not found")
	// ErrType reports a metadata value or a tensor of another type than asked for.
	ErrType = errors.New("gguf: wrong type")
	// ErrRange reports a number of the metadata that no file should hold there.
	ErrRange = errors.New("gguf: number out of range")
)

const (
	hintDamaged = "the file is damaged, cut short or not a GGUF file: compare its size and checksum with the original, or export it again"
	hintChanged = "leave the file alone while it is in use; open it again"
	hintWrite   = "fix the metadata or tensor before writing; nothing was written"
)

// malformed returns an ErrFormat that says what is wrong.
func malformed(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, format, args...), hintDamaged)
}

// changed returns an ErrFormat about a file that was well-formed when opened.
func changed(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, format, args...), hintChanged)
}

// unwritable returns an ErrFormat about what the caller wants to write.
func unwritable(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, format, args...), hintWrite)
}
