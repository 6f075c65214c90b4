package process

import (
	"io"
	"strings"
	"sync"
	"unicode"
)

// ring keeps the last bytes written to it and passes all on.
type ring struct {
	mu   sync.Mutex
	max  int
	buf  []byte
	cut  bool // something was dropped
	next io.Writer
}

func newRing(n int, next io.Writer) *ring { return &ring{max: n, next: next} }

func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next != nil {
		_, _ = r.next.Write(p) // a plugin must not stall because nobody listens
	}
	r.buf = append(r.buf, p...)
	if over := len(r.buf) - r.max; over > 0 {
		r.cut = true
		r.buf = append(r.buf[:0], r.buf[over:]...)
	}
	return len(p), nil
}

// String is what is kept, from the first whole line on.
func (r *ring) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := string(r.buf)
	if _, rest, ok := strings.Cut(s, "\n"); r.cut && ok {
		s = rest
	}
	return Printable(strings.TrimSpace(s))
}

// Printable replaces what could move a terminal's cursor or change its colors.
func Printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' || unicode.IsPrint(c) {
			return c
		}
		return '?'
	}, strings.ToValidUTF8(s, "?"))
}
