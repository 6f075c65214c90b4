package data

import (
	"bytes"
	"io"
	"unicode"
	"unicode/utf8"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/tokenizer"
)

// scanner is a window on a stream: bytes are looked at, then dropped.
type scanner struct {
	r     io.Reader
	buf   []byte
	off   int64 // of buf[0] in the stream
	eof   bool
	limit int // bytes that buf may hold
}

// more reads on. At the end it sets eof.
func (s *scanner) more() error {
	if len(s.buf) >= s.limit {
		return errors.WithHint(errors.Wrapf(ErrTooLarge, "byte %d: no end within %d MiB", s.off, s.limit>>20),
			"split the text there: with white space, line breaks or <|endoftext|>")
	}
	step := min(max(len(s.buf), 1<<16), s.limit-len(s.buf))
	have := len(s.buf)
	s.buf = append(s.buf, make([]byte, step)...)
	n, err := io.ReadFull(s.r, s.buf[have:])
	s.buf = s.buf[:have+n]
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		s.eof, err = true, nil
	}
	return err
}

// drop forgets the first n bytes. It moves the rest, so callers drop rarely.
func (s *scanner) drop(n int) {
	s.buf = s.buf[:copy(s.buf, s.buf[n:])]
	s.off += int64(n)
}

// skipMark drops a byte order mark at the start.
func (s *scanner) skipMark() error {
	if err := s.more(); err != nil {
		return err
	}
	if bytes.HasPrefix(s.buf, byteOrderMark) {
		s.drop(len(byteOrderMark))
	}
	return nil
}

// readText reads documents separated by the literal <|endoftext|>. A document
// longer than a segment comes in parts, cut where that cannot change the
// tokens: before white space that follows something else, the split of the
// tokenizer begins anew whatever came before.
func (p *preparer) readText(r io.Reader) error {
	p.source.unit, p.source.lines = "byte", true
	s := &scanner{r: r, limit: p.size.record}
	if err := s.skipMark(); err != nil {
		return err
	}
	first, searched := true, 0
	for {
		from := 0
		for {
			i := bytes.Index(s.buf[max(from, searched):], []byte(tokenizer.EndOfText))
			if i < 0 {
				break
			}
			end := max(from, searched) + i
			if err := p.add(s.buf[from:end], s.off+int64(from), first, true); err != nil {
				return err
			}
			first, from = true, end+len(tokenizer.EndOfText)
		}
		s.drop(from)
		if s.eof {
			break
		}
		if len(s.buf) >= p.size.text {
			if cut := safeCut(s.buf); cut > 0 {
				if err := p.add(s.buf[:cut], s.off, first, false); err != nil {
					return err
				}
				first = false
				s.drop(cut)
			}
		}
		searched = max(0, len(s.buf)-len(tokenizer.EndOfText)+1)
		if err := s.more(); err != nil {
			return err
		}
	}
	if len(s.buf) > 0 || !first {
		return p.add(s.buf, s.off, first, true)
	}
	return nil
}

// safeCut returns the last place before white space that follows something
// else, 0 where there is none.
func safeCut(b []byte) int {
	for i := len(b) - 1; i > 0; i-- {
		if c := b[i]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			continue
		}
		if r, _ := utf8.DecodeLastRune(b[:i]); !unicode.IsSpace(r) {
			return i
		}
	}
	return 0
}
