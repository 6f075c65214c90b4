package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/errors"
)

// formatVersion is the manifest format that this package writes and reads.
const formatVersion = 1

// maxManifest bounds the size of a manifest.
const maxManifest = 64 << 20

// FileInfo is what a manifest says of a file beside it.
type FileInfo struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // 64 lower-case hexadecimal digits
}

// Manifest describes a checkpoint.
type Manifest struct {
	Format    int                        `json:"format"` // 1
	CreatedBy string                     `json:"created_by"`
	Step      int                        `json:"step"`
	Cursor    uint64                     `json:"cursor"`
	Seed      uint64                     `json:"seed"`
	Config    json.RawMessage            `json:"config"`
	Extra     map[string]json.RawMessage `json:"extra"`
	Files     map[string]FileInfo        `json:"files"`
	Sum       string                     `json:"manifest_sha256"` // of the manifest with zeros in this place
}

// noSum stands for the manifest's own hash while that is computed.
var noSum = strings.Repeat("0", 2*sha256.Size)

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// encode returns the manifest's bytes; it fills in Sum. JSON that is not valid
// is ErrInvalid.
func (m *Manifest) encode() ([]byte, error) {
	m.Sum = noSum
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		return nil, errors.Wrapf(ErrInvalid, "manifest: %v", err)
	}
	out := b.Bytes()
	if len(out) > maxManifest {
		return nil, errors.Wrapf(ErrInvalid, "the manifest takes %d bytes, at most %d are allowed", len(out), maxManifest)
	}
	m.Sum = hexSum(out)
	at := bytes.LastIndex(out, []byte(noSum)) // the field is the last one
	copy(out[at:], m.Sum)
	return out, nil
}

// ReadManifest reads and verifies the manifest of the checkpoint in dir, not
// the tensors. Errors are ErrNotFound, ErrCorrupt, and ErrMismatch for a later
// format.
func ReadManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, manifestFile)
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxManifest {
		return nil, corrupt("%s has %d bytes, at most %d are allowed", path, size, maxManifest)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, errors.Wrap(err, "read checkpoint")
	}
	m, err := decodeManifest(data)
	return m, errors.Wrapf(err, "%s", path)
}

// decodeManifest parses and verifies a manifest.
func decodeManifest(data []byte) (*Manifest, error) {
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, corrupt("manifest: %v", err)
	}
	at := bytes.LastIndex(data, []byte(m.Sum))
	if len(m.Sum) != len(noSum) || at < 0 {
		return nil, corrupt("manifest: no checksum")
	}
	blank := bytes.Clone(data)
	copy(blank[at:], noSum)
	if hexSum(blank) != m.Sum {
		return nil, corrupt("manifest: its checksum is not the one it states")
	}
	switch info, ok := m.Files[tensorsFile]; {
	case m.Format != formatVersion:
		return nil, errors.WithHint(errors.Wrapf(ErrMismatch, "checkpoint format %d, only %d is known", m.Format, formatVersion),
			"the checkpoint was written by another version of tern: use that one")
	case m.Step < 0:
		return nil, corrupt("manifest: step %d", m.Step)
	case !ok || len(m.Files) != 1 || info.Size < 0:
		return nil, corrupt("manifest: %s is not its only file", tensorsFile)
	}
	return &m, m.compact()
}

// compact takes the manifest's indentation out of the caller's JSON.
func (m *Manifest) compact() error {
	squeeze := func(raw json.RawMessage) (json.RawMessage, error) {
		var b bytes.Buffer
		if len(raw) == 0 {
			return nil, nil
		}
		if err := json.Compact(&b, raw); err != nil {
			return nil, corrupt("manifest: %v", err)
		}
		return b.Bytes(), nil
	}
	var err error
	if m.Config, err = squeeze(m.Config); err != nil {
		return err
	}
	for k, v := range m.Extra {
		if m.Extra[k], err = squeeze(v); err != nil {
			return err
		}
	}
	return nil
}

// openRegular opens a file of a checkpoint; ErrNotFound without the
// directory, ErrCorrupt without the file or with something else in its place.
func openRegular(path string) (*os.File, int64, error) {
	if st, err := os.Stat(filepath.Dir(path)); errors.Is(err, os.ErrNotExist) || err == nil && !st.IsDir() {
		return nil, 0, errors.WithHint(errors.Wrapf(ErrNotFound, "%s is no checkpoint's directory", filepath.Dir(path)),
			"name a step-... directory inside a run's directory")
	}
	st, err := os.Stat(path) // before opening: a FIFO would block
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, 0, corrupt("%s is missing", path)
	case err != nil:
		return nil, 0, errors.Wrap(err, "open checkpoint")
	case !st.Mode().IsRegular():
		return nil, 0, corrupt("%s is no regular file but %v", path, st.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, errors.Wrap(err, "open checkpoint")
	}
	return f, st.Size(), nil
}
