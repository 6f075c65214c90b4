package huggingface

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/safetensors"
	"github.com/ternlm/tern/framework/tensor"
)

const (
	oneFile   = "model.safetensors"
	indexFile = "model.safetensors.index.json"
	maxIndex  = 64 << 20
	maxShards = 4096
	maxNames  = 1 << 20 // tensors
)

// Dir is an open model directory: the headers of its files in memory, the
// tensors on disk.
type Dir struct {
	Config *Config

	path   string
	files  []*safetensors.File
	names  []string // of the files
	tensor map[string]int
}

// Info describes a tensor.
type Info struct {
	safetensors.Tensor
	File string // that holds it
}

// Open reads config.json and the headers of model.safetensors, or of the files
// that model.safetensors.index.json names; the caller closes the directory. As
// in transformers, the index does not matter where there is one file. An index
// must name every tensor of its files, in the file that holds it. Errors are
// those of ReadConfig, and ErrFormat for files that disagree.
func Open(dir string) (_ *Dir, err error) {
	d := &Dir{path: dir, tensor: map[string]int{}}
	defer func() {
		if err != nil {
			err = errors.CombineErrors(errors.Wrapf(err, "read model directory %s", dir), d.Close())
		}
	}()
	if d.Config, err = ReadConfig(dir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, oneFile)); err == nil {
		if err := d.open(oneFile); err != nil {
			return nil, err
		}
		return d, nil
	}
	if err := d.openShards(); err != nil {
		return nil, err
	}
	return d, nil
}

// Close closes the files.
func (d *Dir) Close() error {
	var err error
	for _, f := range d.files {
		err = errors.CombineErrors(err, f.Close())
	}
	return err
}

func (d *Dir) open(name string) error {
	f, err := safetensors.Open(filepath.Join(d.path, name))
	switch {
	case errors.Is(err, safetensors.ErrFormat):
		return errors.Mark(err, ErrFormat)
	case err != nil:
		return notFound(err)
	}
	d.files, d.names = append(d.files, f), append(d.names, name)
	for _, t := range f.Tensors {
		if i, ok := d.tensor[t.Name]; ok {
			return malformed("tensor %q is both in %s and in %s", t.Name, d.names[i], name)
		}
		d.tensor[t.Name] = len(d.files) - 1
	}
	return nil
}

func notFound(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errors.WithHint(errors.Mark(err, ErrNotFound),
			"a model directory has config.json and model.safetensors, or model.safetensors.index.json and its parts")
	}
	return err
}

func (d *Dir) openShards() error {
	data, err := readBounded(filepath.Join(d.path, indexFile), maxIndex)
	if err != nil {
		return err
	}
	where, err := parseIndex(data)
	if err != nil {
		return errors.Wrap(err, indexFile)
	}
	shards := map[string]bool{}
	for _, file := range where {
		shards[file] = true
	}
	if len(shards) > maxShards {
		return malformed("%s names %d files, at most %d are read", indexFile, len(shards), maxShards)
	}
	for _, file := range sortedKeys(shards) {
		if err := d.open(file); err != nil {
			return err
		}
	}
	return d.compare(where)
}

// compare holds the index against the files.
func (d *Dir) compare(where map[string]string) error {
	for _, name := range sortedKeys(where) {
		if i, ok := d.tensor[name]; !ok || d.names[i] != where[name] {
			return malformed("%s: tensor %q is not in %s", indexFile, name, where[name])
		}
	}
	for _, name := range d.Names() {
		if _, ok := where[name]; !ok {
			return malformed("%s: tensor %q of %s is missing", indexFile, name, d.names[d.tensor[name]])
		}
	}
	return nil
}

// parseIndex returns the file of each tensor.
func parseIndex(data []byte) (map[string]string, error) {
	f := parseFields(indexFile, data)
	if *f.err != nil {
		return nil, *f.err
	}
	where := map[string]string{}
	err := eachMember(f.raw("weight_map"), maxNames, func(name string, d *json.Decoder) error {
		var file string
		if err := d.Decode(&file); err != nil {
			return malformed("tensor %q: %v", name, err)
		}
		if !plain(file) {
			return malformed("tensor %q: %q is no name of a safetensors file in the directory", name, file)
		}
		if _, ok := where[name]; ok {
			return malformed("tensor %q occurs twice", name)
		}
		where[name] = file
		return nil
	})
	if err == nil && len(where) == 0 {
		err = malformed("weight_map names no tensor")
	}
	return where, errors.Wrap(err, "weight_map")
}

// plain reports whether a name stays inside the directory.
func plain(file string) bool {
	return strings.HasSuffix(file, ".safetensors") && file[0] != '.' && filepath.IsLocal(file) && !strings.ContainsAny(file, "/\\:\x00")
}

// Names lists the tensors by name, in order.
func (d *Dir) Names() []string { return sortedKeys(d.tensor) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Info returns the description of a tensor; ErrNotFound if there is none.
func (d *Dir) Info(name string) (Info, error) {
	i, ok := d.tensor[name]
	if !ok {
		return Info{}, errors.WithHint(errors.Wrapf(ErrNotFound, "tensor %q", name), "config.json may describe another model than the weights are of")
	}
	t, err := d.files[i].Tensor(name)
	return Info{t, d.names[i]}, err
}

// Tensor reads a tensor in its own encoding; the bytes of one of dtype U8, such
// as packed codes, are an i8. Errors are ErrNotFound, ErrFormat, and
// ErrUnsupported for a dtype that package tensor lacks.
func (d *Dir) Tensor(name string) (*tensor.Tensor, error) {
	info, err := d.Info(name)
	if err != nil {
		return nil, err
	}
	f := d.files[d.tensor[name]]
	if info.DType == "U8" && info.Type.DType == tensor.Invalid {
		data, err := f.ReadRaw(name)
		if err != nil {
			return nil, errors.Mark(err, ErrFormat)
		}
		return &tensor.Tensor{Type: tensor.Type{DType: tensor.I8, Shape: slices.Clone(info.Shape)}, Data: data}, nil
	}
	t, err := f.ReadTensor(name)
	return t, ofFile(err)
}

// ReadInto fills dst, which is as long as the tensor is, with its bytes. Errors are
// those of Tensor, and ErrUnsupported for another length.
func (d *Dir) ReadInto(name string, dst []byte) error {
	if _, err := d.Info(name); err != nil {
		return err
	}
	return ofFile(d.files[d.tensor[name]].ReadInto(name, dst))
}

// ofFile marks an error of a file of tensors as one of this package.
func ofFile(err error) error {
	switch {
	case errors.Is(err, safetensors.ErrType):
		return errors.Mark(err, ErrUnsupported)
	case errors.Is(err, safetensors.ErrFormat):
		return errors.Mark(err, ErrFormat)
	}
	return err
}
