package tokenizer

import "unicode/utf8"

// Stream turns ids into text as they come and never cuts a character: bytes
// that could still become one are held back. Bytes that cannot are U+FFFD.
type Stream struct {
	t    *Tokenizer
	held []byte
}

// NewStream returns an empty stream.
func (t *Tokenizer) NewStream() *Stream { return &Stream{t: t} }

// Push takes one id and returns the text that is complete by now, often "".
func (s *Stream) Push(id int32) string {
	s.held = s.t.AppendToken(s.held, id)
	return s.take(false)
}

// Flush returns what is held back, U+FFFD for each byte, and empties the
// stream. Call it at the end of a generation.
func (s *Stream) Flush() string { return s.take(true) }

func (s *Stream) take(all bool) string {
	var out []byte
	rest := s.held
	for len(rest) > 0 && (all || utf8.FullRune(rest)) {
		r, n := utf8.DecodeRune(rest)
		out = utf8.AppendRune(out, r)
		rest = rest[n:]
	}
	s.held = append(s.held[:0], rest...)
	return string(out)
}
