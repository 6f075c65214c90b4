package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/safetensors"
	"github.com/ternlm/tern/framework/tensor"
)

// Load reads the checkpoint in dir. Sizes and SHA-256 of everything are
// verified before any of it is used. Config and Extra come back as compact
// JSON. Errors are ErrNotFound, ErrCorrupt, ErrMismatch for a later format,
// and those of the file system.
func Load(dir string) (*Snapshot, error) {
	m, f, size, err := open(dir)
	if err != nil {
		return nil, errors.Wrapf(err, "load checkpoint %s", dir)
	}
	defer f.Close()
	tensors, err := readTensors(f, size)
	if err != nil {
		return nil, errors.Wrapf(err, "load checkpoint %s", dir)
	}
	return &Snapshot{
		Step: m.Step, Config: m.Config, Cursor: m.Cursor, Seed: m.Seed, CreatedBy: m.CreatedBy,
		Extra: m.Extra, Tensors: tensors,
	}, nil
}

// Verify checks the checkpoint in dir as Load does, without keeping it in
// memory. Errors are those of Load.
func Verify(dir string) error {
	_, f, size, err := open(dir)
	if err != nil {
		return errors.Wrapf(err, "verify checkpoint %s", dir)
	}
	defer f.Close()
	if _, err := safetensors.Read(f, size); err != nil {
		return errors.Wrapf(errors.Mark(err, ErrCorrupt), "verify checkpoint %s", dir)
	}
	return nil
}

// open reads the manifest and opens the tensors' file, both verified.
func open(dir string) (*Manifest, *os.File, int64, error) {
	m, f, err := openQuick(dir)
	if err != nil {
		return nil, nil, 0, err
	}
	want := m.Files[tensorsFile]
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(f, want.Size))
	switch sum := hex.EncodeToString(hash.Sum(nil)); {
	case err != nil:
		err = errors.Wrap(err, "read checkpoint")
	case n != want.Size || sum != want.SHA256:
		err = corrupt("%s: its SHA-256 is %s, the manifest says %s", tensorsFile, sum, want.SHA256)
	}
	if err != nil {
		return nil, nil, 0, errors.CombineErrors(err, f.Close())
	}
	return m, f, want.Size, nil
}

// openQuick is open without the hash of the tensors.
func openQuick(dir string) (*Manifest, *os.File, error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, nil, err
	}
	f, size, err := openRegular(filepath.Join(dir, tensorsFile))
	if err != nil {
		return nil, nil, err
	}
	if want := m.Files[tensorsFile].Size; size != want {
		err = corrupt("%s has %d bytes, the manifest says %d", tensorsFile, size, want)
		return nil, nil, errors.CombineErrors(err, f.Close())
	}
	return m, f, nil
}

// readTensors reads all tensors of a verified file.
func readTensors(r io.ReaderAt, size int64) (map[string]*tensor.Tensor, error) {
	f, err := safetensors.Read(r, size)
	if err != nil {
		return nil, errors.Mark(err, ErrCorrupt)
	}
	out := make(map[string]*tensor.Tensor, len(f.Tensors))
	for _, t := range f.Tensors {
		if out[t.Name], err = f.ReadTensor(t.Name); err != nil {
			return nil, errors.Mark(err, ErrCorrupt)
		}
	}
	return out, nil
}
