package llama2c

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/atomicfile"
	"github.com/ternlm/tern/internal/regularfile"
	"github.com/ternlm/tern/tokenizer"
)

const (
	space         = "\u2581" // SentencePiece's mark of a space
	firstByte     = 3        // id of byte 0
	firstPiece    = firstByte + 256
	maxVocab      = 1 << 20
	maxFile       = 64 << 20
	maxPieceBytes = 1 << 16
)

// ReadTokenizer reads the tokenizer.bin at path: the u32 length of the longest
// piece, then for each of vocab tokens an f32 score, an i32 length and the
// bytes. Ids 0, 1 and 2 are the unknown token, the begin and the end of a text;
// 3 to 258 must be the bytes "<0x00>" to "<0xFF>", because run.c takes them so.
// The file has plain spaces where SentencePiece has U+2581, and line feeds
// around the begin and end tokens; both are put right. Errors are ErrFormat and
// those of the file system.
func ReadTokenizer(path string, vocab int) (*tokenizer.Vocabulary, error) {
	f, size, err := regularfile.Open(path)
	switch {
	case errors.Is(err, regularfile.ErrIrregular):
		return nil, malformed("%v", err)
	case err != nil:
		return nil, errors.Wrap(err, "open tokenizer")
	}
	v, err := readTokenizer(f, size, vocab)
	if err != nil {
		err = errors.Wrapf(err, "read %s", path)
	}
	return v, errors.CombineErrors(err, f.Close())
}

func readTokenizer(f *os.File, size int64, vocab int) (*tokenizer.Vocabulary, error) {
	if size > maxFile {
		return nil, malformed("%d bytes, a tokenizer has at most %d", size, maxFile)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, malformed("%v", err)
	}
	return parseTokenizer(data, vocab)
}

func parseTokenizer(data []byte, vocab int) (*tokenizer.Vocabulary, error) {
	if vocab < firstPiece || vocab > maxVocab || len(data) < 4+8*vocab {
		return nil, malformed("%d bytes for %d tokens; a vocabulary has from %d to %d, each of 8 bytes and its text",
			len(data), vocab, firstPiece, maxVocab)
	}
	longest := binary.LittleEndian.Uint32(data)
	data = data[4:]
	v := &tokenizer.Vocabulary{
		Model: "llama", Pre: "default", BOS: 1, EOS: 2, UNK: 0, PAD: -1, AddBOS: true, AddSpacePrefix: true,
	}
	for id := range vocab {
		if len(data) < 8 {
			return nil, malformed("the file ends before token %d of %d", id, vocab)
		}
		score, n := math.Float32frombits(binary.LittleEndian.Uint32(data)), binary.LittleEndian.Uint32(data[4:])
		data = data[8:]
		if n > longest || n > maxPieceBytes || int64(n) > int64(len(data)) {
			return nil, malformed("token %d: %d bytes of text, at most %d are announced and %d left", id, n, longest, len(data))
		}
		if score != score {
			return nil, malformed("token %d: its score is no number", id)
		}
		text, kind, err := piece(id, string(data[:n]))
		if err != nil {
			return nil, err
		}
		data = data[n:]
		v.Tokens, v.Types, v.Scores = append(v.Tokens, text), append(v.Types, kind), append(v.Scores, score)
	}
	if len(data) > 0 {
		return nil, malformed("%d bytes after token %d, the last: the vocabulary is larger than the model's", len(data), vocab-1)
	}
	return v, nil
}

// piece returns the text and kind of the token id that the file has as raw.
func piece(id int, raw string) (text string, kind int32, err error) {
	if !utf8.ValidString(raw) || raw == "" {
		return "", 0, malformed("token %d: %q is empty or not UTF-8", id, raw)
	}
	switch {
	case id == 0:
		return raw, tokenizer.TokenUnknown, nil
	case id < firstByte:
		return strings.Trim(raw, "\n"), tokenizer.TokenControl, nil
	case id < firstPiece:
		if want := byteName(id - firstByte); raw != want {
			return "", 0, malformed("token %d is %q, not the byte %s", id, raw, want)
		}
		return raw, tokenizer.TokenByte, nil
	}
	return strings.ReplaceAll(raw, " ", space), tokenizer.TokenNormal, nil
}

func byteName(b int) string { return fmt.Sprintf("<0x%02X>", b) }

// WriteTokenizer writes a tokenizer.bin whole or not at all. The vocabulary is
// one of SentencePiece (Model "llama") with the ids that ReadTokenizer asks
// for. Errors are ErrFormat and those of the file system.
func WriteTokenizer(path string, v *tokenizer.Vocabulary) error {
	data, err := appendTokenizer(v)
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, data)
}

func appendTokenizer(v *tokenizer.Vocabulary) ([]byte, error) {
	n := len(v.Tokens)
	if v.Model != "llama" || n < firstPiece || n > maxVocab || len(v.Types) != n || len(v.Scores) != n {
		return nil, unwritable("a %q vocabulary of %d tokens, %d types and %d scores", v.Model, n, len(v.Types), len(v.Scores))
	}
	if v.UNK != 0 || v.BOS != 1 || v.EOS != 2 {
		return nil, unwritable("unknown, begin and end are ids %d, %d, %d; run.c takes 0, 1, 2", v.UNK, v.BOS, v.EOS)
	}
	longest := 0
	var body []byte
	for id, text := range v.Tokens {
		if id >= firstByte && id < firstPiece && text != byteName(id-firstByte) {
			return nil, unwritable("token %d is %q, run.c takes it as the byte %s", id, text, byteName(id-firstByte))
		}
		if id == 1 || id == 2 {
			text = "\n" + text + "\n"
		}
		text = strings.ReplaceAll(text, space, " ")
		longest = max(longest, len(text))
		body = binary.LittleEndian.AppendUint32(body, math.Float32bits(v.Scores[id]))
		body = append(binary.LittleEndian.AppendUint32(body, uint32(len(text))), text...)
	}
	data := append(binary.LittleEndian.AppendUint32(nil, uint32(longest)), body...)
	back, err := parseTokenizer(data, n)
	if err != nil {
		return nil, unwritable("%v", err)
	}
	for id := range n {
		if back.Tokens[id] != v.Tokens[id] || back.Types[id] != v.Types[id] {
			return nil, unwritable("token %d, %q of type %d, would be read as %q of type %d",
				id, v.Tokens[id], v.Types[id], back.Tokens[id], back.Types[id])
		}
	}
	return data, nil
}
