package huggingface

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/safetensors"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/atomicfile"
	"github.com/ternlm/tern/tokenizer"
)

// maxShard is the most that Write puts into one file of weights, in bytes of
// tensors, as transformers does.
const maxShard = 5_000_000_000

// Packed describes packed codes (Pack) to write: bytes of dtype U8.
func Packed(name string, t *tensor.Tensor) safetensors.Entry {
	e := safetensors.Of(name, t)
	e.As = "U8"
	return e
}

// Write writes a model directory that transformers loads: config.json,
// generation_config.json, model.safetensors or, beyond 5 GB, its parts with an
// index, and, where there is a vocabulary, tokenizer.json and
// tokenizer_config.json. Tensors have transformers' names; each entry is asked
// for its data once. Each file is written whole or not at all, config.json
// last. The directory is made where it does not exist, and must not hold a
// model: what is left of another one could be read instead. Errors are
// ErrFormat and those of the file system.
func Write(dir string, c *Config, v *tokenizer.Vocabulary, tensors []safetensors.Entry) error {
	return write(dir, c, v, tensors, maxShard)
}

func write(dir string, c *Config, v *tokenizer.Vocabulary, tensors []safetensors.Entry, limit int64) error {
	config, err := c.encode()
	if err != nil {
		return err
	}
	small := map[string][]byte{}
	if small["generation_config.json"], err = c.encodeGeneration(); err != nil {
		return err
	}
	if v != nil {
		if err := encodeVocabulary(small, v, c); err != nil {
			return err
		}
	}
	if err := checkTensors(tensors); err != nil {
		return err
	}
	if err := prepare(dir); err != nil {
		return err
	}
	if err := writeWeights(dir, tensors, limit); err != nil {
		return err
	}
	for _, name := range sortedKeys(small) {
		if err := atomicfile.WriteBytes(filepath.Join(dir, name), small[name]); err != nil {
			return err
		}
	}
	return atomicfile.WriteBytes(filepath.Join(dir, "config.json"), config)
}

// prepare makes the directory and refuses one with a model in it.
func prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return errors.Wrap(err, "make model directory")
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return errors.Wrap(err, "read model directory")
	}
	for _, e := range list {
		name := e.Name()
		if filepath.Ext(name) == ".safetensors" || name == indexFile || name == "config.json" || name == "tokenizer.model" {
			return errors.WithHint(errors.Wrapf(ErrFormat, "%s already holds %s", dir, name), "name a new directory, or remove what is in this one")
		}
	}
	return nil
}

func checkTensors(tensors []safetensors.Entry) error {
	seen := make(map[string]bool, len(tensors))
	for _, e := range tensors {
		if seen[e.Name] {
			return unwritable("tensor %q occurs twice", e.Name)
		}
		if e.Type.DType.Codes() {
			return unwritable("tensor %q is %v: other readers know no codes, Pack them", e.Name, e.Type)
		}
		seen[e.Name] = true
	}
	return nil
}

// weightIndex is model.safetensors.index.json.
type weightIndex struct {
	Metadata struct {
		TotalSize int64 `json:"total_size"`
	} `json:"metadata"`
	WeightMap map[string]string `json:"weight_map"`
}

func writeWeights(dir string, tensors []safetensors.Entry, limit int64) error {
	shards := shard(tensors, limit)
	index := weightIndex{WeightMap: map[string]string{}}
	for i, entries := range shards {
		name := oneFile
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		for _, e := range entries {
			index.WeightMap[e.Name] = name
			index.Metadata.TotalSize += int64(e.Type.Bytes())
		}
		err := safetensors.WriteFile(filepath.Join(dir, name), map[string]string{"format": "pt"}, entries)
		switch {
		case errors.Is(err, safetensors.ErrFormat):
			return errors.Mark(err, ErrFormat)
		case err != nil:
			return err
		}
	}
	if len(shards) == 1 {
		return nil
	}
	data, err := encode(index)
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, indexFile), data)
}

// shard cuts the tensors, in order, into lists of at most limit bytes each; a
// larger tensor is alone.
func shard(tensors []safetensors.Entry, limit int64) [][]safetensors.Entry {
	shards := [][]safetensors.Entry{nil}
	var size int64
	for _, e := range tensors {
		n := int64(e.Type.Bytes())
		last := len(shards) - 1
		if len(shards[last]) > 0 && size+n > limit {
			shards, last, size = append(shards, nil), last+1, 0
		}
		shards[last] = append(shards[last], e)
		size += n
	}
	return shards
}
