package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/mmap"
	"github.com/ternlm/tern/tokenizer"
)

const (
	llmcMagic   = 20240520
	llmcMagic32 = 20240801 // u32 ids, of larger vocabularies
	llmcHeader  = 1024     // 256 x i32
)

// Tokens is a sequence of token ids on disk or in memory. It is safe for
// concurrent use until Close.
type Tokens struct {
	path     string
	data     []byte // little-endian u16 or, for vocabularies beyond 65,536, u32
	wide     bool   // u32: in memory only
	tok      *tokenizer.Tokenizer
	manifest *Manifest
	llmc     bool          // end-of-text ids come before documents
	mapping  *mmap.Mapping // holds data, which may vanish under us: read it through guard; nil in memory
	sum      func() (string, error)
}

// OpenTokens opens a token file and tells by content which kind it is: tern's
// own (NAME.bin with NAME.json), nanoGPT's (raw u16) or llm.c's (a header of
// 256 i32, then u16). The latter two are taken to hold GPT-2's ids, and each
// id is checked here; in tern's own, each is checked as it is read, and Verify
// checks all. Where the system can, the file is memory-mapped.
//
// Errors: ErrEmpty, ErrFormat, ErrTruncated, ErrTokenRange, tokenizer.ErrUnknown.
func OpenTokens(path string) (*Tokens, error) { return OpenTokensAs(path, "") }

// OpenTokensAs opens a token file whose ids are those of the named tokenizer.
// A manifest that names another tokenizer is an error; "" takes the
// manifest's, or "gpt2" where there is no manifest.
func OpenTokensAs(path, name string) (*Tokens, error) {
	if _, err := os.Stat(path); os.IsNotExist(err) {
		if _, err := os.Stat(path + ".bin"); err == nil {
			path += ".bin"
		}
	}
	m, err := loadManifest(path)
	if err != nil {
		return nil, err
	}
	t := &Tokens{path: path, manifest: m}
	if t.tok, err = chooseTokenizer(m, name); err != nil {
		return nil, errors.Wrapf(err, "open %s", path)
	}
	if t.data, t.mapping, err = mapFile(path); err != nil {
		return nil, errors.Wrapf(err, "open %s", path)
	}
	t.sum = sync.OnceValues(t.checksum)
	if err := t.guard(t.admit); err != nil {
		return nil, errors.CombineErrors(errors.Wrapf(err, "open %s", path), t.Close())
	}
	return t, nil
}

func chooseTokenizer(m *Manifest, want string) (*tokenizer.Tokenizer, error) {
	if want == "" {
		want = "gpt2"
		if m != nil {
			want = m.Tokenizer
		}
	}
	tok, err := tokenizer.Open(want)
	if err != nil {
		return nil, err
	}
	if m != nil && m.Tokenizer != tok.Name() {
		return nil, errors.WithHintf(errors.Wrapf(tokenizer.ErrUnknown, "its ids are those of %q, not of %q", m.Tokenizer, tok.Name()),
			"prepare the text again with tokenizer %s, or use %s", tok.Name(), m.Tokenizer)
	}
	return tok, nil
}

// NewTokens makes a sequence of the named tokenizer's ids in memory. It copies
// them.
func NewTokens(ids []uint16, name string) (*Tokens, error) {
	tok, err := tokenizer.Open(name)
	if err != nil {
		return nil, err
	}
	data := make([]byte, 2*len(ids))
	for i, id := range ids {
		binary.LittleEndian.PutUint16(data[2*i:], id)
	}
	return newMemory(data, tok, nil)
}

func newMemory(data []byte, tok *tokenizer.Tokenizer, m *Manifest) (*Tokens, error) {
	t := &Tokens{path: "tokens in memory", data: data, wide: isWide(tok), tok: tok, manifest: m}
	t.sum = sync.OnceValues(t.checksum)
	if err := t.admit(); err != nil {
		return nil, errors.Wrap(err, t.path)
	}
	return t, nil
}

// admit finds out what the bytes are, strips a header and checks them.
func (t *Tokens) admit() error {
	if len(t.data) == 0 {
		return errors.WithHint(ErrEmpty, "the file holds no tokens: prepare it from text first")
	}
	if m := t.manifest; m != nil {
		if want := int64(idBytes(t.wide)) * m.Tokens; int64(len(t.data)) != want {
			return errors.WithHint(errors.Wrapf(ErrTruncated, "%d bytes, but the manifest says %d tokens (%d bytes)", len(t.data), m.Tokens, want),
				"copy the file again, or prepare it again")
		}
		return nil
	}
	if isText(t.data) {
		return errors.WithHint(errors.Wrap(ErrFormat, "it is text, not token ids"), "make a token file of it with tern data prepare")
	}
	if err := t.stripHeader(); err != nil {
		return err
	}
	if len(t.data)%2 != 0 {
		return errors.WithHint(errors.Wrapf(ErrFormat, "%d bytes: an odd number cannot be u16 ids", len(t.data)),
			"the file is damaged or no token file; prepare text files first")
	}
	return t.checkRange()
}

// isText reports whether bytes are text rather than ids without a header, of
// which any text would be some: two letters are an id of GPT-2's. The most
// frequent ids are below 8192, with an upper byte that no text has.
func isText(b []byte) bool {
	const enough, most = 32, 64 << 10
	if len(b) < enough {
		return false
	}
	b = b[:min(len(b), most)]
	if slices.ContainsFunc(b, func(c byte) bool { return c < ' ' && c != '\t' && c != '\n' && c != '\r' }) {
		return false
	}
	for cut := range utf8.UTFMax { // the last rune may be incomplete
		if utf8.Valid(b[:len(b)-cut]) {
			return true
		}
	}
	return false
}

func (t *Tokens) stripHeader() error {
	if len(t.data) < 4 {
		return nil
	}
	switch binary.LittleEndian.Uint32(t.data) {
	case llmcMagic:
	case llmcMagic32:
		return errors.WithHint(errors.Wrap(ErrFormat, "an llm.c file of u32 ids, whose vocabulary is beyond 65536"),
			"prepare the text again: tern reads GPT-2's vocabulary")
	default:
		return nil
	}
	if len(t.data) < llmcHeader {
		return errors.WithHint(errors.Wrapf(ErrTruncated, "%d bytes, less than llm.c's header", len(t.data)), "copy the file again")
	}
	version := int32(binary.LittleEndian.Uint32(t.data[4:]))
	count := int64(int32(binary.LittleEndian.Uint32(t.data[8:])))
	if version != 1 {
		return errors.WithHint(errors.Wrapf(ErrFormat, "llm.c version %d, this program reads 1", version), "prepare the text again")
	}
	if got := int64(len(t.data)-llmcHeader) / 2; got != count || len(t.data)%2 != 0 {
		return errors.WithHint(errors.Wrapf(ErrTruncated, "%d bytes, but its header says %d tokens (%d bytes)", len(t.data), count, llmcHeader+2*count),
			"copy the file again")
	}
	t.data, t.llmc = t.data[llmcHeader:], true
	if len(t.data) == 0 {
		return errors.WithHint(ErrEmpty, "the file holds no tokens: prepare it from text first")
	}
	return nil
}

// checkRange reports the first id outside the vocabulary.
func (t *Tokens) checkRange() error {
	vocab := t.Vocab()
	for i := range t.Len() {
		if id := t.id(i); uint32(id) >= uint32(vocab) {
			return t.rangeError(int(id), i)
		}
	}
	return nil
}

func (t *Tokens) rangeError(id, at int) error {
	hint := "the file is damaged: verify it, or prepare it again"
	if t.manifest == nil {
		hint = "the file is damaged, no token file, or of another tokenizer (tern reads GPT-2's ids): prepare it again from text"
	}
	return errors.WithHint(errors.Wrapf(ErrTokenRange, "id %d at position %d, vocabulary %d", id, at, t.Vocab()), hint)
}

// Len returns the number of tokens.
func (t *Tokens) Len() int { return len(t.data) / idBytes(t.wide) }

// isWide reports whether ids of tok do not fit u16.
func isWide(tok *tokenizer.Tokenizer) bool { return tok.Vocab() > 1<<16 }

// idBytes is the size of an id in bytes.
func idBytes(wide bool) int {
	if wide {
		return 4
	}
	return 2
}

// id returns the id at position i, unchecked.
func (t *Tokens) id(i int) int32 {
	if t.wide {
		return int32(binary.LittleEndian.Uint32(t.data[4*i:]))
	}
	return int32(binary.LittleEndian.Uint16(t.data[2*i:]))
}

// appendID appends an id as data has it.
func appendID(data []byte, id int32, wide bool) []byte {
	if wide {
		return binary.LittleEndian.AppendUint32(data, uint32(id))
	}
	return binary.LittleEndian.AppendUint16(data, uint16(id))
}

// Path returns the file that was opened.
func (t *Tokens) Path() string { return t.path }

// Tokenizer returns the tokenizer whose ids these are.
func (t *Tokens) Tokenizer() *tokenizer.Tokenizer { return t.tok }

// Vocab returns the size of the vocabulary: ids are below it.
func (t *Tokens) Vocab() int { return t.tok.Vocab() }

// EOT returns the id that separates documents.
func (t *Tokens) EOT() int32 { return t.tok.EOT() }

// Manifest returns what was recorded of the file; false where nothing was.
func (t *Tokens) Manifest() (Manifest, bool) {
	if t.manifest == nil {
		return Manifest{}, false
	}
	return *t.manifest, true
}

// Read fills dst with the ids from position at on. A range beyond the ends is
// ErrOption, an id outside the vocabulary ErrTokenRange, a file that shrank
// ErrChanged; dst then holds no particular values. Read does not allocate.
func (t *Tokens) Read(dst []int32, at int) error {
	if at < 0 || at > t.Len() || len(dst) > t.Len()-at {
		return errors.Wrapf(ErrOption, "read %d tokens at %d of %d", len(dst), at, t.Len())
	}
	return t.guard(func() error { return t.read(dst, at) })
}

func (t *Tokens) read(dst []int32, at int) error {
	vocab := uint32(t.Vocab())
	for i := range dst {
		id := t.id(at + i)
		if uint32(id) >= vocab {
			return t.rangeError(int(id), at+i)
		}
		dst[i] = id
	}
	return nil
}

// guard calls fn, which reads data; mapped memory that is no longer there is
// ErrChanged.
func (t *Tokens) guard(fn func() error) error {
	if t.mapping == nil {
		return fn()
	}
	err := mmap.Guard(t.mapping.Holds, fn)
	if err != nil && errors.Is(err, mmap.ErrFault) {
		return errors.WithHint(errors.Wrap(ErrChanged, t.path), "the file shrank or its disk failed: prepare it again, and leave it alone while it is in use")
	}
	return err
}

// Verify reads the whole file: each id must be in the vocabulary, and the
// checksum the recorded one, if one was recorded. Errors: ErrTokenRange,
// ErrChecksum, ErrChanged.
func (t *Tokens) Verify() error {
	if t.manifest != nil {
		sum, err := t.checksum() // anew, not the remembered one
		if err != nil {
			return err
		}
		if sum != t.manifest.SHA256 {
			return errors.WithHint(errors.Wrapf(ErrChecksum, "%s: sha256 %s, recorded %s", t.path, sum, t.manifest.SHA256),
				"the file is damaged: copy it again, or prepare it again")
		}
	}
	return errors.Wrap(t.guard(t.checkRange), t.path)
}

// Fingerprint returns the sha256 of the ids as little-endian u16, in hex: the
// recorded one, or one computed at the first call. A checkpoint that stores it
// can tell that it is resumed on other data.
func (t *Tokens) Fingerprint() (string, error) {
	if t.manifest != nil {
		return t.manifest.SHA256, nil
	}
	return t.sum()
}

func (t *Tokens) checksum() (s string, err error) {
	err = t.guard(func() error {
		sum := sha256.Sum256(t.data)
		s = hex.EncodeToString(sum[:])
		return nil
	})
	return s, err
}

// Close releases the file. Nothing may use the tokens or their batches after.
func (t *Tokens) Close() error {
	t.data = nil
	if t.mapping == nil {
		return nil
	}
	return errors.Wrapf(t.mapping.Close(), "close %s", t.path)
}
