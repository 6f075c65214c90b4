package data

import (
	"bytes"
	"context"
	"sync"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
)

// source says of a segment's records where they come from and what they are.
type source struct {
	name   string // of the file, for errors; may be ""
	unit   string // what record.at counts: "byte", "line", "element", "row"
	lines  bool   // one line break at each end belongs to the separator
	check  bool   // not known to be UTF-8 yet
	decode func(raw []byte) ([]byte, error)
}

// segment is a unit of work: records of one source on the way in, ids on the
// way out.
type segment struct {
	source  *source
	raw     []byte
	records []record

	ids       []byte // little-endian u16; set by the reader for token files
	documents int64
	textBytes int64
	err       error
	done      chan struct{}
}

// record is a document, or a part of one that is too long for a segment.
type record struct {
	end         int // in raw; it begins where the one before ends
	at          int64
	first, last bool // part of its document
}

var segments = sync.Pool{New: func() any { return &segment{done: make(chan struct{}, 1)} }}

func newSegment(src *source) *segment {
	s := segments.Get().(*segment)
	*s = segment{source: src, raw: s.raw[:0], records: s.records[:0], ids: s.ids[:0], done: s.done}
	return s
}

// maxRecords bounds a segment whose documents are tiny or empty.
const maxRecords = 1 << 14

// add takes a copy of a record of the current source.
func (p *preparer) add(raw []byte, at int64, first, last bool) error {
	if p.open == nil {
		p.open = newSegment(p.source)
	}
	s := p.open
	s.raw = append(s.raw, raw...)
	s.records = append(s.records, record{len(s.raw), at, first, last})
	if len(s.raw) >= p.size.text || len(s.records) >= maxRecords {
		return p.flush()
	}
	return nil
}

// flush hands the open segment on.
func (p *preparer) flush() error {
	if p.o.Progress != nil {
		p.o.Progress(p.done, p.total)
	}
	s := p.open
	if s == nil {
		return nil
	}
	p.open = nil
	return p.emit(s)
}

// pipeline runs read in one goroutine, tokenizes what it emits in Workers
// others, and calls write here with the segments in the order of emission. The
// error that comes first in that order is returned, whoever found it.
func (p *preparer) pipeline(ctx context.Context, read func() error, write func(*segment) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	work := make(chan *segment)
	ordered := make(chan *segment, p.o.Workers+1) // bounds what is in flight
	p.emit = func(s *segment) error {
		for _, to := range []chan *segment{ordered, work} {
			select {
			case to <- s:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	wg.Go(func() {
		defer close(ordered)
		defer close(work)
		err := read()
		if err == nil {
			err = p.flush()
		}
		if err != nil {
			s := newSegment(nil)
			s.err = err
			_ = p.emit(s) // fails only if another error came first
		}
	})
	for range p.o.Workers {
		wg.Go(func() {
			w := worker{p: p}
			for s := range work {
				if s.err == nil {
					s.err = w.tokenize(s)
				}
				s.done <- struct{}{}
			}
		})
	}
	for s := range ordered {
		select {
		case <-s.done:
		case <-ctx.Done():
			return errors.Wrap(ctx.Err(), "stopped")
		}
		if s.err != nil {
			return s.err
		}
		if err := write(s); err != nil {
			return err
		}
		segments.Put(s)
	}
	return errors.Wrap(ctx.Err(), "stopped")
}

// worker tokenizes segments with buffers of its own.
type worker struct {
	p   *preparer
	ids []int32
}

func (w *worker) tokenize(s *segment) error {
	from := 0
	for _, r := range s.records {
		raw := s.raw[from:r.end]
		from = r.end
		if err := w.document(s, r, raw); err != nil {
			if s.source.name == "" {
				return errors.Wrapf(err, "%s %d", s.source.unit, r.at)
			}
			return errors.Wrapf(err, "%s: %s %d", s.source.name, s.source.unit, r.at)
		}
	}
	return nil
}

func (w *worker) document(s *segment, r record, raw []byte) error {
	text := raw
	if s.source.decode != nil {
		var err error
		if text, err = s.source.decode(raw); err != nil {
			return err
		}
	}
	if s.source.check && !utf8.Valid(text) {
		return notUTF8(errors.Wrapf(ErrNotUTF8, "at its byte %d", invalidAt(text)))
	}
	if r.first && r.last && len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	text = w.trim(text, r, s.source.lines)
	w.ids = w.p.tok.Encode(w.ids[:0], text)
	if r.last {
		w.ids = append(w.ids, w.p.tok.EOT())
		s.documents++
	}
	for _, id := range w.ids {
		s.ids = appendID(s.ids, id, w.p.wide)
	}
	s.textBytes += int64(len(text))
	return nil
}

// lineBreaks are what is trimmed at the ends of documents.
const lineBreaks = "\r\n"

func (w *worker) trim(text []byte, r record, lines bool) []byte {
	switch {
	case !w.p.o.Verbatim && r.first && r.last:
		return bytes.Trim(text, lineBreaks)
	case !w.p.o.Verbatim && r.first:
		return bytes.TrimLeft(text, lineBreaks)
	case !w.p.o.Verbatim && r.last:
		return bytes.TrimRight(text, lineBreaks)
	}
	if lines && r.first {
		text = bytes.TrimPrefix(bytes.TrimPrefix(text, []byte("\r")), []byte("\n"))
	}
	if lines && r.last {
		text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	}
	return text
}
