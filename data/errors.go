package data

import "github.com/cockroachdb/errors"

// What can be wrong with data. The error that wraps one of these says where,
// and carries a hint that says what to do.
var (
	ErrEmpty      = errors.New("no data")
	ErrNotUTF8    = errors.New("not valid UTF-8")
	ErrFormat     = errors.New("unknown or broken format")
	ErrTooLarge   = errors.New("larger than the limit")
	ErrTokenRange = errors.New("token id outside the vocabulary")
	ErrTooShort   = errors.New("shorter than one window")
	ErrTruncated  = errors.New("size differs from what was recorded")
	ErrChecksum   = errors.New("checksum differs from what was recorded")
	ErrChanged    = errors.New("file changed while it was read")
	ErrOption     = errors.New("option out of range")
)
