package modelfile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// keySum is the metadata key of the checksum: the SHA-256, in lower-case hex,
// of the configuration as JSON, of the format's keys where there are any, and of every tensor in the file's order (its
// name, type and shape, a line, and its bytes).
const keySum = "tern.sha256"

// digest adds up what keySum covers.
type digest struct{ h hash.Hash }

func newDigest(c model.Config, format []gguf.KV) (digest, error) {
	d := digest{sha256.New()}
	js, err := json.Marshal(c)
	if err != nil {
		return d, errors.Wrap(err, "checksum")
	}
	d.h.Write(append(js, '\n'))
	for _, kv := range format {
		fmt.Fprintf(d.h, "%s %v\n", kv.Key, kv.Value)
	}
	return d, nil
}

// add covers a tensor; data writes its bytes.
func (d digest) add(name string, t ggml.Type, s tensor.Shape, data func(io.Writer) error) error {
	fmt.Fprintf(d.h, "%s %v %v\n", name, t, s)
	return data(d.h)
}

func (d digest) String() string { return hex.EncodeToString(d.h.Sum(nil)) }

// sumOf is the checksum of a file to be written.
func sumOf(c model.Config, format []gguf.KV, tensors []gguf.TensorInfo) (string, error) {
	d, err := newDigest(c, format)
	if err != nil {
		return "", err
	}
	for _, t := range tensors {
		if err := d.add(t.Name, t.Type, t.Shape, t.Data); err != nil {
			return "", errors.Wrapf(err, "checksum of tensor %q", t.Name)
		}
	}
	return d.String(), nil
}

// checkSum compares a file with the checksum in its metadata, if it has one.
func checkSum(f *gguf.File, m *model.Model) error {
	v, ok := f.Metadata.Get(keySum)
	if !ok {
		return nil
	}
	var format []gguf.KV
	if _, has := f.Metadata.Get(keyBits); has {
		format = formatKeys(m, m.Quant)
	}
	d, err := newDigest(m.Config, format)
	if err != nil {
		return err
	}
	for _, t := range f.Tensors {
		r, err := f.Section(t.Name)
		if err != nil {
			return err
		}
		if err := d.add(t.Name, t.Type, t.Shape, func(w io.Writer) error { _, err := io.Copy(w, r); return err }); err != nil {
			return errors.Wrapf(err, "read tensor %q", t.Name)
		}
	}
	if d.String() != v {
		return errors.WithHint(errors.Wrapf(ErrModel, "its checksum %s is %v in the metadata", d, v), "the file is damaged: copy or export it again")
	}
	return nil
}
