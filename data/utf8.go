package data

import (
	"io"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
)

var byteOrderMark = []byte("\xef\xbb\xbf")

// utf8Reader passes bytes on and fails at the first that is not UTF-8, with
// its offset from where the reader began.
type utf8Reader struct {
	r    io.Reader
	off  int64  // of the next byte to read
	tail []byte // the start of a character whose end is not read yet
}

func (u *utf8Reader) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	b := p[:n]
	for len(u.tail) > 0 && len(b) > 0 && !utf8.FullRune(u.tail) {
		u.tail = append(u.tail, b[0])
		b = b[1:]
		u.off++
	}
	if len(u.tail) > 0 && utf8.FullRune(u.tail) {
		if !utf8.Valid(u.tail) {
			return 0, u.fail(u.off - int64(len(u.tail)))
		}
		u.tail = u.tail[:0]
	}
	if len(b) > 0 {
		cut := len(b) - incomplete(b)
		if !utf8.Valid(b[:cut]) {
			return 0, u.fail(u.off + int64(invalidAt(b)))
		}
		u.tail = append(u.tail, b[cut:]...)
		u.off += int64(len(b))
	}
	if err == io.EOF && len(u.tail) > 0 {
		return 0, u.fail(u.off - int64(len(u.tail)))
	}
	return n, err
}

func (u *utf8Reader) fail(at int64) error {
	return notUTF8(errors.Wrapf(ErrNotUTF8, "byte %d", at))
}

func notUTF8(err error) error {
	return errors.WithHint(err, "convert the text to UTF-8, for example with iconv -f WINDOWS-1252 -t UTF-8, or mend it at that place")
}

// incomplete returns how many bytes at the end of b start a character that is
// not all there.
func incomplete(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if utf8.FullRune(b[len(b)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}

// invalidAt returns the offset of the first byte of b that is not UTF-8, or
// len(b).
func invalidAt(b []byte) int {
	at := 0
	for at < len(b) {
		r, n := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && n == 1 {
			return at
		}
		at += n
	}
	return at
}
