package data

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

const jsonHint = `documents are {"text": "..."}, {"story": "..."} or "...": one a line, or in one array`

// jsonStringLine tells whether the first line is one JSON string: plain text
// may begin with a quotation mark too.
func jsonStringLine(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	return json.Valid(line)
}

// readLines reads a JSON document a line.
func (p *preparer) readLines(r io.Reader) error {
	p.source.unit, p.source.decode = "line", p.decodeJSON
	s := &scanner{r: r, limit: p.size.record}
	if err := s.skipMark(); err != nil {
		return err
	}
	line, searched := int64(0), 0
	for {
		from := 0
		for {
			i := bytes.IndexByte(s.buf[max(from, searched):], '\n')
			if i < 0 {
				break
			}
			end := max(from, searched) + i
			line++
			if err := p.addLine(s.buf[from:end], line); err != nil {
				return err
			}
			from = end + 1
		}
		s.drop(from)
		if s.eof {
			return p.addLine(s.buf, line+1)
		}
		searched = len(s.buf)
		if err := s.more(); err != nil {
			return errors.Wrapf(err, "line %d", line+1)
		}
	}
}

func (p *preparer) addLine(b []byte, line int64) error {
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return nil
	}
	return p.add(b, line, true, true)
}

// decodeJSON returns the text of one document, nil where it is null.
func (p *preparer) decodeJSON(raw []byte) ([]byte, error) {
	if raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, brokenJSON(err)
		}
		return []byte(s), nil
	}
	if p.o.Field == "" {
		var doc struct{ Text, Story *string }
		if err := json.Unmarshal(raw, &doc); err == nil && doc.Text != nil {
			return []byte(*doc.Text), nil
		} else if err == nil && doc.Story != nil {
			return []byte(*doc.Story), nil
		}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, brokenJSON(err)
	}
	key, err := chooseField(fields, p.o.Field)
	if err != nil {
		return nil, err
	}
	var s *string
	if err := json.Unmarshal(fields[key], &s); err != nil {
		return nil, brokenJSON(errors.Wrapf(err, "key %q", key))
	}
	if s == nil {
		return nil, nil
	}
	return []byte(*s), nil
}

// chooseField returns the key that holds the text.
func chooseField(fields map[string]json.RawMessage, want string) (string, error) {
	var keys, texts []string
	for key, v := range fields {
		keys = append(keys, key)
		if v[0] == '"' {
			texts = append(texts, key)
		}
	}
	slices.Sort(keys)
	return pickField(keys, texts, want)
}

// pickField chooses among the fields of a record, of which texts hold strings.
func pickField(fields, texts []string, want string) (string, error) {
	for _, key := range []string{want, "text", "story"} {
		if key != "" && slices.Contains(fields, key) {
			return key, nil
		}
		if want != "" {
			break
		}
	}
	if want == "" && len(texts) == 1 {
		return texts[0], nil
	}
	if len(fields) > 20 {
		fields = append(fields[:20:20], "...")
	}
	return "", errors.WithHint(errors.Wrapf(ErrFormat, "no field %s among: %s", orDefault(want), strings.Join(fields, ", ")),
		"name the field that holds the text")
}

func orDefault(want string) string {
	if want == "" {
		return `"text" or "story"`
	}
	return `"` + want + `"`
}

func brokenJSON(err error) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, "%v", err), jsonHint)
}

// readArray reads the elements of one JSON array, of which it holds one at a
// time. It only finds where they end; decodeJSON looks inside.
func (p *preparer) readArray(r io.Reader) error {
	p.source.unit, p.source.decode = "element", p.decodeJSON
	a := &arrayScanner{scanner: scanner{r: r, limit: p.size.record}}
	if err := a.skipMark(); err != nil {
		return err
	}
	if c, err := a.next(); err != nil || c != '[' {
		return a.unexpected(c, err, "[")
	}
	a.pos++
	for n := int64(1); ; n++ {
		c, err := a.next()
		if err != nil {
			return a.unexpected(c, err, "an element or ]")
		}
		if c == ']' && n == 1 {
			break
		}
		element, err := a.element()
		if err != nil {
			return errors.Wrapf(err, "element %d", n)
		}
		if err := p.add(element, n, true, true); err != nil {
			return err
		}
		if c, err = a.next(); err != nil || c != ',' && c != ']' {
			return errors.Wrapf(a.unexpected(c, err, ", or ]"), "after element %d", n)
		}
		a.pos++
		if c == ']' {
			a.pos--
			break
		}
	}
	a.pos++
	if c, err := a.next(); err != io.EOF {
		return a.unexpected(c, err, "nothing after ]")
	}
	return nil
}

// arrayScanner walks over JSON values without decoding them.
type arrayScanner struct {
	scanner
	pos int // in buf
}

// next skips white space and returns the byte it stands on; io.EOF at the end.
func (a *arrayScanner) next() (byte, error) {
	for {
		for a.pos < len(a.buf) {
			switch c := a.buf[a.pos]; c {
			case ' ', '\t', '\r', '\n':
				a.pos++
			default:
				return c, nil
			}
		}
		if err := a.refill(0); err != nil {
			return 0, err
		}
	}
}

// refill reads on, keeping the bytes from keep bytes before pos.
func (a *arrayScanner) refill(keep int) error {
	a.drop(a.pos - keep)
	a.pos = keep
	if a.eof {
		return io.EOF
	}
	return a.more()
}

// element returns the value that begins at pos and moves behind it. The bytes
// are valid until the next call.
func (a *arrayScanner) element() ([]byte, error) {
	n, depth, quoted := 0, 0, false // n: bytes of the element so far
	for {
		for a.pos < len(a.buf) {
			c := a.buf[a.pos]
			switch {
			case quoted && c == '\\':
				if a.pos+1 >= len(a.buf) {
					goto refill
				}
				a.pos++
				n++
			case c == '"':
				quoted = !quoted
			case quoted:
			case c == '{' || c == '[':
				depth++
			case depth == 0 && (c == ',' || c == ']' || c == '}' || c == ' ' || c == '\n' || c == '\r' || c == '\t'):
				if n == 0 {
					return nil, a.unexpected(c, nil, "a value")
				}
				return a.buf[a.pos-n : a.pos], nil
			case c == '}' || c == ']':
				depth--
			}
			a.pos++
			n++
		}
	refill:
		if err := a.refill(n); err != nil {
			return nil, a.unexpected(0, err, "the end of the element")
		}
	}
}

func (a *arrayScanner) unexpected(c byte, err error, want string) error {
	switch {
	case err == io.EOF:
		return errors.WithHint(errors.Wrapf(ErrFormat, "the file ends before %s", want), "the file is cut short: copy it again")
	case err != nil:
		return err
	}
	return errors.WithHint(errors.Wrapf(ErrFormat, "byte %d is %q, not %s", a.off+int64(a.pos), c, want), jsonHint)
}
