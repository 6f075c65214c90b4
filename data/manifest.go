package data

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/atomicfile"
	"github.com/ternlm/tern/tokenizer"
)

const (
	manifestFormat  = "tern-tokens"
	manifestVersion = 1
	maxManifest     = 1 << 20 // bytes
)

// Manifest is what NAME.json says of the token file NAME.bin: raw
// little-endian u16 ids, the end-of-text id after every document.
type Manifest struct {
	Format    string   `json:"format"`     // "tern-tokens"
	Version   int      `json:"version"`    // of the format: 1
	Tokenizer string   `json:"tokenizer"`  // as tokenizer.Open takes it
	Vocab     int      `json:"vocab"`      // ids are below this
	EOT       int32    `json:"eot"`        // the end-of-text id
	Tokens    int64    `json:"tokens"`     // end-of-text ids included
	Documents int64    `json:"documents"`  // end-of-text ids
	TextBytes int64    `json:"text_bytes"` // UTF-8 bytes of the documents
	SHA256    string   `json:"sha256"`     // of NAME.bin, lower-case hex
	Sources   []string `json:"sources"`    // base names of the input files, in order
}

const manifestHint = "prepare the file again, or delete the manifest to read the tokens as GPT-2's"

// check returns nil where the fields agree with each other.
func (m *Manifest) check() error {
	if m.Version != manifestVersion {
		return errors.WithHint(errors.Wrapf(ErrFormat, "manifest version %d, this program reads %d", m.Version, manifestVersion),
			"use the version of tern that wrote the file, or prepare it again")
	}
	size, err := tokenizer.Size(m.Tokenizer)
	if err != nil {
		return err
	}
	sum, err := hex.DecodeString(m.SHA256)
	if m.Vocab != size || m.EOT != int32(size-1) || m.Tokens < 1 || m.Tokens > 1<<50 ||
		m.Documents < 0 || m.Documents > m.Tokens || m.TextBytes < 0 || err != nil || len(sum) != 32 {
		return errors.WithHint(errors.Wrap(ErrFormat, "manifest contradicts itself"), manifestHint)
	}
	return nil
}

// parseManifest reads a manifest. ok is false for JSON that is something else.
func parseManifest(b []byte) (m Manifest, ok bool, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&m); err != nil {
		return Manifest{}, false, errors.WithHint(errors.Wrapf(ErrFormat, "manifest is not JSON: %v", err), manifestHint)
	}
	if m.Format != manifestFormat {
		return Manifest{}, false, nil
	}
	if err := m.check(); err != nil {
		return Manifest{}, false, err
	}
	return m, true, nil
}

// loadManifest reads the manifest of a token file, nil where there is none.
func loadManifest(binPath string) (*Manifest, error) {
	path := strings.TrimSuffix(binPath, ".bin") + ".json"
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, errors.Wrapf(err, "open %s", path)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, errors.Wrapf(err, "read %s", path)
	}
	if len(b) > maxManifest {
		return nil, errors.WithHint(errors.Wrapf(ErrTooLarge, "%s: manifest of more than %d bytes", path, maxManifest), manifestHint)
	}
	m, ok, err := parseManifest(b)
	if err != nil || !ok {
		return nil, errors.Wrap(err, path)
	}
	return &m, nil
}

// write stores the manifest beside the token file.
func (m *Manifest) write(binPath string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return errors.Wrap(err, "write manifest")
	}
	return atomicfile.WriteBytes(strings.TrimSuffix(binPath, ".bin")+".json", append(b, '\n'))
}
