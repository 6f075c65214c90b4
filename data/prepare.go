package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/atomicfile"
	"github.com/ternlm/tern/tokenizer"
)

// PrepareOptions says what becomes a token file.
type PrepareOptions struct {
	// Inputs are files, read in this order. Their content says what they are:
	// plain text with <|endoftext|> between documents, lines of JSON, a JSON
	// array, parquet, nanoGPT's or llm.c's or tern's tokens; any of the first
	// three may be packed by gzip or zstd.
	Inputs []string

	// Out is the token file NAME.bin; its manifest is NAME.json. The extension
	// may be left out. The directory must exist.
	Out string

	// Tokenizer is a name for tokenizer.Open; "" is "gpt2".
	Tokenizer string

	// Format overrides what the content says: one of Formats, "" for auto.
	Format string

	// Field is the key (JSON) or column (parquet) that holds the text; "" is
	// "text", else "story", else the only one that holds strings.
	Field string

	// Verbatim keeps line breaks at both ends of a document, which are trimmed
	// otherwise. In plain text one at each end belongs to the <|endoftext|>
	// lines in any case. Other white space is always kept: the published token
	// counts of TinyStories come out so.
	Verbatim bool

	// Workers is the number of goroutines that tokenize; 0 is one per CPU. The
	// result does not depend on it.
	Workers int

	// Progress, if not nil, is called now and then by another goroutine with
	// the bytes read and the bytes of all inputs (0 where that is unknown).
	Progress func(done, total int64)
}

// Prepare writes the token file and its manifest: for each document its ids
// and the end-of-text id. Documents of nothing but white space are left out.
// Files appear whole or not at all, memory does not grow with the inputs, and
// the result is a function of the inputs, Tokenizer, Field and Verbatim.
//
// Token files as input keep their ids where the tokenizer is theirs (with
// llm.c's end-of-text ids moved from before documents to after them); else
// their text is tokenized again.
//
// Errors name the file and the place in it: ErrEmpty, ErrNotUTF8, ErrFormat,
// ErrTooLarge, ErrTokenRange, ErrTruncated, tokenizer.ErrUnknown, ErrOption.
func Prepare(ctx context.Context, o PrepareOptions) (Manifest, error) {
	out := strings.TrimSuffix(o.Out, ".bin") + ".bin"
	if err := checkPaths(o, out); err != nil {
		return Manifest{}, err
	}
	p, err := newPreparer(o)
	if err != nil {
		return Manifest{}, err
	}
	for _, path := range o.Inputs {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			p.total += info.Size()
		}
	}
	var m Manifest
	err = atomicfile.Write(out, func(w io.Writer) error {
		m, err = p.run(ctx, w, func() error {
			for _, path := range o.Inputs {
				if err := p.readFile(path); err != nil {
					return errors.Wrap(err, path)
				}
			}
			return nil
		})
		return err
	})
	if err != nil {
		return Manifest{}, errors.Wrap(err, "prepare")
	}
	for _, path := range o.Inputs {
		m.Sources = append(m.Sources, filepath.Base(path))
	}
	if err := m.write(out); err != nil {
		return Manifest{}, errors.Wrap(err, "prepare")
	}
	return m, nil
}

// TokenizeText makes tokens in memory from text in any of the formats that
// Prepare reads from a stream (plain text, lines of JSON, a JSON array, packed
// or not): what a run on a small text needs, without files.
func TokenizeText(ctx context.Context, text []byte, name string) (*Tokens, error) {
	p, err := newPreparer(PrepareOptions{Tokenizer: name})
	if err != nil {
		return nil, err
	}
	return p.tokenize(ctx, text)
}

// TokenizeWith is TokenizeText for a tokenizer that has no name to open, such as
// one from a model's file. Its vocabulary may be of any size.
func TokenizeWith(ctx context.Context, text []byte, tok *tokenizer.Tokenizer) (*Tokens, error) {
	p, err := newPreparer(PrepareOptions{})
	if err != nil {
		return nil, err
	}
	p.tok, p.wide = tok, isWide(tok)
	return p.tokenize(ctx, text)
}

// tokenize makes tokens in memory.
func (p *preparer) tokenize(ctx context.Context, text []byte) (*Tokens, error) {
	p.total = int64(len(text))
	var ids bytes.Buffer
	m, err := p.run(ctx, &ids, func() error { return p.readStream(bytes.NewReader(text)) })
	if err != nil {
		return nil, errors.Wrap(err, "tokenize")
	}
	return newMemory(ids.Bytes(), p.tok, &m)
}

func checkPaths(o PrepareOptions, out string) error {
	if len(o.Inputs) == 0 || o.Out == "" {
		return errors.WithHint(errors.Wrap(ErrOption, "prepare: no input or no output"), "name the files to read and the file to write")
	}
	manifest := strings.TrimSuffix(out, ".bin") + ".json"
	for _, path := range o.Inputs {
		if _, err := os.Stat(path); err != nil {
			return errors.WithHint(errors.Wrap(err, "prepare"), "name existing files to read")
		}
	}
	for _, written := range []string{out, manifest} {
		old, err := os.Stat(written)
		if err != nil {
			continue
		}
		for _, path := range o.Inputs {
			if in, err := os.Stat(path); err == nil && os.SameFile(in, old) {
				return errors.WithHint(errors.Wrapf(ErrOption, "prepare: %s would be overwritten while it is read", path), "write to another name")
			}
		}
	}
	return nil
}

// preparer is one run from inputs to ids.
type preparer struct {
	o      PrepareOptions
	tok    *tokenizer.Tokenizer
	wide   bool // ids are written as u32
	size   segmentSize
	total  int64 // bytes of all inputs
	done   int64 // of them read
	source *source
	open   *segment // being filled
	emit   func(*segment) error
}

// segmentSize bounds the work units; tests make it small.
type segmentSize struct {
	text   int // bytes of text in a segment, and of a piece of a long document
	record int // bytes of a line, an array element, a text without white space
}

func newPreparer(o PrepareOptions) (*preparer, error) {
	if o.Tokenizer == "" {
		o.Tokenizer = "gpt2"
	}
	tok, err := tokenizer.Open(o.Tokenizer)
	if err != nil {
		return nil, err
	}
	if o.Workers < 0 || o.Workers > 1024 {
		return nil, errors.WithHint(errors.Wrapf(ErrOption, "%d workers", o.Workers), "use 0 for one per CPU")
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if err := checkFormat(o.Format); err != nil {
		return nil, err
	}
	return &preparer{o: o, tok: tok, size: segmentSize{text: 1 << 20, record: 64 << 20}}, nil
}

// run lets read fill segments, tokenizes them and writes the ids in order.
func (p *preparer) run(ctx context.Context, w io.Writer, read func() error) (Manifest, error) {
	m := Manifest{Format: manifestFormat, Version: manifestVersion, Tokenizer: p.tok.Name(), Vocab: p.tok.Vocab(), EOT: p.tok.EOT(), Sources: []string{}}
	sum := sha256.New()
	w = io.MultiWriter(w, sum)
	err := p.pipeline(ctx, read, func(s *segment) error {
		m.Tokens += int64(len(s.ids) / idBytes(p.wide))
		m.Documents += s.documents
		m.TextBytes += s.textBytes
		_, err := w.Write(s.ids)
		return err
	})
	if err != nil {
		return Manifest{}, err
	}
	if m.Tokens == 0 {
		return Manifest{}, errors.WithHint(errors.Wrap(ErrEmpty, "no document has text"), "check the inputs: every document is empty or white space")
	}
	m.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return m, nil
}
