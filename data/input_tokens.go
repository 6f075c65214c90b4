package data

import "github.com/cockroachdb/errors"

// readTokens takes ids from a token file: as they are if they are the wanted
// tokenizer's, else by way of their text.
func (p *preparer) readTokens(path string) (err error) {
	t, err := OpenTokens(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, t.Close()) }()
	if t.manifest != nil {
		if err := t.Verify(); err != nil {
			return err
		}
	}
	if t.tok == p.tok {
		return p.copyTokens(t)
	}
	return p.retokenize(t, path)
}

// copyTokens emits the ids in blocks. An end-of-text id that opens the file
// (llm.c's order) is dropped, and one is added where the file ends without:
// the same number of both, save for a file that has neither.
func (p *preparer) copyTokens(t *Tokens) error {
	p.source = &source{}
	ids := make([]int32, max(1, p.size.text/2))
	lead, start := 0, p.done
	if t.llmc && first(t) == t.EOT() {
		lead = 1
	}
	for at := lead; at < t.Len(); at += len(ids) {
		ids = ids[:min(len(ids), t.Len()-at)]
		if err := t.Read(ids, at); err != nil {
			return err
		}
		s := newSegment(p.source)
		for _, id := range ids {
			s.addID(t, id)
		}
		if at+len(ids) == t.Len() && ids[len(ids)-1] != t.EOT() {
			s.addID(t, t.EOT())
		}
		p.done = start + 2*int64(at)
		if err := p.flush(); err != nil {
			return err
		}
		if err := p.emit(s); err != nil {
			return err
		}
	}
	return nil
}

func first(t *Tokens) int32 {
	var id [1]int32
	if t.Len() == 0 || t.Read(id[:], 0) != nil {
		return -1
	}
	return id[0]
}

func (s *segment) addID(t *Tokens, id int32) {
	s.ids = appendID(s.ids, id, t.wide)
	s.textBytes += int64(t.tok.Bytes(id))
	if id == t.EOT() {
		s.documents++
	}
}

// retokenize emits the text of the documents.
func (p *preparer) retokenize(t *Tokens, name string) error {
	p.source = &source{name: name, unit: "token", check: true}
	ids := make([]int32, 1<<16)
	var text []byte
	begin, start := 0, p.done
	for at := 0; at < t.Len(); at += len(ids) {
		ids = ids[:min(len(ids), t.Len()-at)]
		if err := t.Read(ids, at); err != nil {
			return err
		}
		for i, id := range ids {
			if id != t.EOT() {
				text = t.tok.AppendToken(text, id)
				continue
			}
			if err := p.add(text, int64(begin), true, true); err != nil {
				return err
			}
			text, begin = text[:0], at+i+1
		}
		if len(text) > p.size.record {
			return errors.WithHint(errors.Wrapf(ErrTooLarge, "token %d: a document of more than %d MiB", begin, p.size.record>>20), "prepare it from its text")
		}
		p.done = start + 2*int64(at)
	}
	return p.add(text, int64(begin), true, true)
}
