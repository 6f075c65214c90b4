package data

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/compress/zstd"

	"github.com/ternlm/tern/tokenizer"
)

// The kinds of input that PrepareOptions.Format can name.
const (
	FormatText    = "text"    // documents separated by <|endoftext|>
	FormatLines   = "jsonl"   // a JSON object or string a line
	FormatArray   = "json"    // one JSON array of objects or strings
	FormatParquet = "parquet" // one column of strings
	FormatTokens  = "tokens"  // ids: tern's, nanoGPT's or llm.c's

	formatGzip = "gzip"
	formatZstd = "zstd"
)

// Formats returns the names that PrepareOptions.Format takes.
func Formats() []string {
	return []string{FormatText, FormatLines, FormatArray, FormatParquet, FormatTokens}
}

// headBytes is how much of an input decides what it is.
const headBytes = 1 << 16

func checkFormat(format string) error {
	if format == "" || slices.Contains(Formats(), format) {
		return nil
	}
	return errors.WithHintf(errors.Wrapf(ErrOption, "format %q", format), "use one of %s, or none to let the content say", strings.Join(Formats(), ", "))
}

// readFile reads one input into segments.
func (p *preparer) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errors.WithHint(errors.Wrap(ErrFormat, "a directory"), "name the files in it")
	}
	format := p.o.Format
	if format == "" && info.Mode().IsRegular() {
		head := make([]byte, headBytes)
		n, err := f.ReadAt(head, 0)
		if err != nil && err != io.EOF {
			return err
		}
		if format, err = detect(head[:n]); err != nil {
			return err
		}
	}
	start := p.done
	switch format {
	case FormatParquet:
		err = p.readParquet(f, info.Size(), path)
	case FormatTokens:
		err = p.readTokens(path)
	default:
		p.source = &source{name: path}
		err = p.readStream(f)
	}
	if err == nil {
		err = p.flush()
	}
	p.done = start + info.Size()
	return err
}

// counter counts the bytes of an input for Progress.
type counter struct {
	r io.Reader
	n *int64
}

func (c counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	*c.n += int64(n)
	return n, err
}

// readStream reads text in one of the formats that need no seeking, unpacked
// if it is packed.
func (p *preparer) readStream(r io.Reader) error {
	name := ""
	if p.source != nil {
		name = p.source.name
	}
	b := bufio.NewReaderSize(counter{r, &p.done}, headBytes)
	kind, err := p.peek(b)
	if err != nil {
		return err
	}
	if kind == formatGzip || kind == formatZstd {
		unpacked, closer, err := unpack(b, kind)
		if err != nil {
			return err
		}
		defer closer()
		b = bufio.NewReaderSize(unpacked, headBytes)
		if kind, err = p.peek(b); err != nil {
			return errors.Wrap(err, "unpacked")
		}
	}
	text := &utf8Reader{r: b}
	p.source = &source{name: name}
	switch kind {
	case FormatText:
		err = p.readText(text)
	case FormatLines:
		err = p.readLines(text)
	case FormatArray:
		err = p.readArray(text)
	default:
		return errors.WithHint(errors.Wrapf(ErrFormat, "%s inside a stream", kind), "unpack it to a file first")
	}
	return err
}

func (p *preparer) peek(b *bufio.Reader) (string, error) {
	head, err := b.Peek(headBytes)
	if err != nil && err != io.EOF {
		return "", brokenPack(err)
	}
	kind, derr := detect(head)
	if p.o.Format != "" && kind != formatGzip && kind != formatZstd {
		if len(head) == 0 {
			return "", derr
		}
		return p.o.Format, nil
	}
	return kind, derr
}

// unpack limits a zstd window to 128 MiB, so that an input cannot ask for all
// memory.
func unpack(r io.Reader, kind string) (io.Reader, func(), error) {
	if kind == formatGzip {
		z, err := gzip.NewReader(r)
		return packed{z}, func() {}, brokenPack(err)
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		return nil, nil, brokenPack(err)
	}
	return packed{z}, z.Close, nil
}

// packed says of an error that it lies in the packing.
type packed struct{ r io.Reader }

func (p packed) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF {
		err = brokenPack(err)
	}
	return n, err
}

func brokenPack(err error) error {
	if err == nil || errors.Is(err, ErrFormat) {
		return err
	}
	return errors.WithHint(errors.Wrapf(ErrFormat, "unpack: %v", err), "the packed file is damaged or cut short: copy it again")
}

// detect tells from the first bytes of an input what it is. Text that is not
// UTF-8 is text: its reader says where.
func detect(head []byte) (string, error) {
	switch {
	case len(head) == 0:
		return "", errors.WithHint(ErrEmpty, "the file is empty")
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return formatGzip, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return formatZstd, nil
	case bytes.HasPrefix(head, []byte("PAR1")):
		return FormatParquet, nil
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}) || bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		return "", errors.WithHint(errors.Wrap(ErrNotUTF8, "UTF-16 text"), "convert it: iconv -f UTF-16 -t UTF-8")
	case len(head) >= 4 && isLLMC(binary.LittleEndian.Uint32(head)), looksLikeTokens(head):
		return FormatTokens, nil
	}
	if looksBinary(head) {
		return "", errors.WithHint(errors.Wrap(ErrFormat, "neither text, JSON, parquet nor tokens"),
			"tern reads UTF-8 text, jsonl, a JSON array, parquet, and nanoGPT or llm.c .bin files; name the format if this is one of them")
	}
	return detectText(head), nil
}

func isLLMC(magic uint32) bool { return magic == llmcMagic || magic == llmcMagic32 }

// detectText tells JSON from plain text by how it begins.
func detectText(head []byte) string {
	head = bytes.TrimLeft(bytes.TrimPrefix(head, byteOrderMark), " \t\r\n")
	if len(head) == 0 {
		return FormatText
	}
	next := bytes.TrimLeft(head[1:], " \t\r\n")
	switch {
	case len(next) == 0:
	case head[0] == '{' && next[0] == '"':
		return FormatLines
	case head[0] == '[' && (next[0] == '{' || next[0] == '"' || next[0] == ']'):
		return FormatArray
	case head[0] == '"' && jsonStringLine(head):
		return FormatLines
	}
	return FormatText
}

// looksLikeTokens: GPT-2's ids below 256 are punctuation and common enough to
// show as zero bytes, which text has none of. Ids that are all below 256 are
// rather characters (UTF-16 text, a character-level vocabulary).
func looksLikeTokens(head []byte) bool {
	zeros, large := 0, false
	for i := 0; i+1 < len(head); i += 2 {
		id := int(head[i]) | int(head[i+1])<<8
		if id >= tokenizer.MaxVocab {
			return false
		}
		large = large || id >= 256
		if head[i] == 0 {
			zeros++
		}
		if head[i+1] == 0 {
			zeros++
		}
	}
	return large && zeros*64 > len(head)
}

// looksBinary: more than one byte in 32 is a control character.
func looksBinary(head []byte) bool {
	n := 0
	for _, c := range head {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' || c == 0x7f {
			n++
		}
	}
	return n*32 > len(head)
}
