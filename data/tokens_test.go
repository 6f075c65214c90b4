package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/tokenizer"
)

func u16(ids ...uint16) []byte {
	var b []byte
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint16(b, id)
	}
	return b
}

// llmc returns an llm.c file as its tokenizer scripts write it.
func llmc(version, count int32, ids ...uint16) []byte {
	h := make([]byte, llmcHeader)
	binary.LittleEndian.PutUint32(h, 20240520)
	binary.LittleEndian.PutUint32(h[4:], uint32(version))
	binary.LittleEndian.PutUint32(h[8:], uint32(count))
	return append(h, u16(ids...)...)
}

func writeFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// withManifest writes a token file of ids and its manifest, changed by edit.
func withManifest(t testing.TB, data []byte, edit func(*Manifest)) string {
	t.Helper()
	path := writeFile(t, "x.bin", data)
	m := Manifest{
		Format: "tern-tokens", Version: 1, Tokenizer: "gpt2:300", Vocab: 300, EOT: 299,
		Tokens: int64(len(data) / 2), SHA256: fmt.Sprintf("%x", sha256.Sum256(data)),
	}
	if edit != nil {
		edit(&m)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(strings.TrimSuffix(path, ".bin")+".json", b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTokenFilesAreToldApartByContent(t *testing.T) {
	for name, c := range map[string]struct {
		path  string
		vocab int
	}{
		"tern":    {withManifest(t, u16(5, 6, 299), nil), 300},
		"nanogpt": {writeFile(t, "train.bin", u16(5, 6, 299)), 50257},
		"llm.c":   {writeFile(t, "tinystories.data", llmc(1, 3, 5, 6, 299)), 50257},
	} {
		tokens, err := OpenTokens(c.path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := make([]int32, 3)
		if err := tokens.Read(got, 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got[0] != 5 || got[1] != 6 || got[2] != 299 || tokens.Len() != 3 || tokens.Vocab() != c.vocab {
			t.Errorf("%s: ids %v, vocabulary %d", name, got, tokens.Vocab())
		}
		if err := tokens.Verify(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if sum, err := tokens.Fingerprint(); err != nil || sum != fmt.Sprintf("%x", sha256.Sum256(u16(5, 6, 299))) {
			t.Errorf("%s: fingerprint %s, %v", name, sum, err)
		}
		if err := tokens.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheExtensionMayBeLeftOut(t *testing.T) {
	path := withManifest(t, u16(1, 2, 299), nil)
	tokens, err := OpenTokens(strings.TrimSuffix(path, ".bin"))
	if err != nil {
		t.Fatal(err)
	}
	if tokens.Vocab() != 300 {
		t.Errorf("vocabulary %d: the manifest was not read", tokens.Vocab())
	}
	if err := tokens.Close(); err != nil {
		t.Error(err)
	}
}

func TestBadTokenFilesAreRefused(t *testing.T) {
	ok := u16(5, 6, 299)
	for name, c := range map[string]struct {
		path string
		want error
		text string
	}{
		"empty":               {writeFile(t, "a.bin", nil), ErrEmpty, ""},
		"text":                {writeFile(t, "a.bin", []byte(strings.Repeat("Once upon a time, Tom ran.\n", 9))), ErrFormat, "it is text"},
		"text, odd":           {writeFile(t, "a.bin", []byte(strings.Repeat("Él corrió.\n", 9)+"x")), ErrFormat, "it is text"},
		"odd":                 {writeFile(t, "a.bin", []byte{1, 2, 3}), ErrFormat, "odd"},
		"one byte":            {writeFile(t, "a.bin", []byte{1}), ErrFormat, ""},
		"id too large":        {writeFile(t, "a.bin", u16(1, 50256, 50257)), ErrTokenRange, "id 50257 at position 2"},
		"llm.c truncated":     {writeFile(t, "a.bin", llmc(1, 4, 5, 6, 299)), ErrTruncated, "4 tokens"},
		"llm.c odd":           {writeFile(t, "a.bin", append(llmc(1, 1, 5), 0)), ErrTruncated, ""},
		"llm.c header cut":    {writeFile(t, "a.bin", llmc(1, 0)[:1000]), ErrTruncated, ""},
		"llm.c negative":      {writeFile(t, "a.bin", llmc(1, -1, 5)), ErrTruncated, ""},
		"llm.c no tokens":     {writeFile(t, "a.bin", llmc(1, 0)), ErrEmpty, ""},
		"llm.c version":       {writeFile(t, "a.bin", llmc(2, 1, 5)), ErrFormat, "version 2"},
		"llm.c of u32":        {writeFile(t, "a.bin", append([]byte{0xa1, 0xd9, 0x34, 1}, make([]byte, 2000)...)), ErrFormat, "u32"},
		"llm.c id":            {writeFile(t, "a.bin", llmc(1, 2, 5, 60000)), ErrTokenRange, "id 60000 at position 1"},
		"truncated":           {withManifest(t, ok, func(m *Manifest) { m.Tokens = 4 }), ErrTruncated, "4 tokens"},
		"manifest version":    {withManifest(t, ok, func(m *Manifest) { m.Version = 2 }), ErrFormat, "version 2"},
		"manifest vocabulary": {withManifest(t, ok, func(m *Manifest) { m.Vocab = 301 }), ErrFormat, "contradicts"},
		"manifest sum":        {withManifest(t, ok, func(m *Manifest) { m.SHA256 = "ab" }), ErrFormat, "contradicts"},
		"manifest count":      {withManifest(t, ok, func(m *Manifest) { m.Tokens = -1 }), ErrFormat, "contradicts"},
		"manifest tokenizer":  {withManifest(t, ok, func(m *Manifest) { m.Tokenizer = "llama" }), tokenizer.ErrUnknown, "llama"},
		"directory":           {t.TempDir(), ErrFormat, "regular"},
	} {
		_, err := OpenTokens(c.path)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: error %v, want %v with %q", name, err, c.want, c.text)
		}
		if len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: no hint", name)
		}
	}
	if _, err := OpenTokens(filepath.Join(t.TempDir(), "none.bin")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := OpenTokensAs(withManifest(t, ok, nil), "gpt2"); !errors.Is(err, tokenizer.ErrUnknown) {
		t.Errorf("other tokenizer: %v", err)
	}
}

func TestVerifyFindsADamagedFile(t *testing.T) {
	sum := withManifest(t, u16(5, 6, 299), func(m *Manifest) { m.SHA256 = strings.Repeat("ab", 32) })
	id := withManifest(t, u16(5, 300, 299), nil)
	for path, want := range map[string]error{sum: ErrChecksum, id: ErrTokenRange} {
		tokens, err := OpenTokens(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := tokens.Verify(); !errors.Is(err, want) {
			t.Errorf("verify: %v, want %v", err, want)
		}
		if want == ErrTokenRange {
			if err := tokens.Read(make([]int32, 3), 0); !errors.Is(err, want) || !strings.Contains(err.Error(), "position 1") {
				t.Errorf("read: %v", err)
			}
		}
		if err := tokens.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAFileThatShrinksGivesAnError(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // the file is read whole there
	}
	n := 1 << 16
	path := withManifest(t, make([]byte, 2*n), nil)
	tokens, err := OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tokens.Batches(BatchOptions{Batch: 2, Window: 64})
	if err != nil {
		t.Fatal(err)
	}
	in, out := make([]int32, 128), make([]int32, 128)
	if err := b.Next(in, out); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	b.Seek(500)
	for what, err := range map[string]error{
		"next": b.Next(in, out), "verify": tokens.Verify(), "read": tokens.Read(in, n-128),
	} {
		if !errors.Is(err, ErrChanged) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: error %v", what, err)
		}
	}
	if _, err := tokens.Batches(BatchOptions{Batch: 1, Window: 64, AlignStories: true}); !errors.Is(err, ErrChanged) {
		t.Errorf("align: error %v", err)
	}
	if b.Cursor() != 500 {
		t.Errorf("cursor %d", b.Cursor())
	}
	if err := tokens.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadRefusesRangesBeyondTheEnds(t *testing.T) {
	tokens, err := NewTokens([]uint16{1, 2, 3}, "gpt2")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]int{{-1, 1}, {0, 4}, {3, 1}, {4, 0}} {
		if err := tokens.Read(make([]int32, c[1]), c[0]); !errors.Is(err, ErrOption) {
			t.Errorf("read %d at %d: %v", c[1], c[0], err)
		}
	}
	if err := tokens.Read(nil, 3); err != nil {
		t.Errorf("read nothing: %v", err)
	}
}

func FuzzOpenTokens(f *testing.F) {
	f.Add(u16(1, 2, 50256), []byte(nil))
	f.Add(llmc(1, 2, 1, 2), []byte(nil))
	f.Add(llmc(1, -5, 1, 2), []byte("{}"))
	f.Add(u16(1, 2, 299), []byte(`{"format":"tern-tokens","version":1,"tokenizer":"gpt2:300","vocab":300,"eot":299,"tokens":3,"sha256":"`+strings.Repeat("00", 32)+`"}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, bin, manifest []byte) {
		path := filepath.Join(dir, "f.bin")
		if err := os.WriteFile(path, bin, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(filepath.Join(dir, "f.json"))
		if manifest != nil {
			if err := os.WriteFile(filepath.Join(dir, "f.json"), manifest, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		tokens, err := OpenTokens(path)
		if err != nil {
			return
		}
		defer tokens.Close()
		ids := make([]int32, min(tokens.Len(), 1000))
		if err := tokens.Read(ids, tokens.Len()-len(ids)); err != nil {
			return
		}
		for _, id := range ids {
			if id < 0 || int(id) >= tokens.Vocab() {
				t.Fatalf("id %d of %d", id, tokens.Vocab())
			}
		}
	})
}
