package main

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/formats/huggingface"
	"github.com/ternlm/tern/formats/llama2c"
	"github.com/ternlm/tern/internal/regularfile"
	"github.com/ternlm/tern/modelfile"
)

// foreignReport is what tern inspect says of a model in another format than GGUF.
type foreignReport struct {
	Path      string          `json:"path"`
	Format    string          `json:"format"`
	Config    any             `json:"config"`
	Tokenizer *vocabularyInfo `json:"tokenizer"` // nil for none
	Tensors   []tensorRow     `json:"tensors"`
	Model     *modelTable     `json:"model"`
	CannotRun string          `json:"cannot_run,omitempty"` // why Model is missing

	title    string
	keys     gguf.Metadata // Config as lines
	noTokens error         // why the tokenizer cannot be read
}

func (r *foreignReport) tokenizerLine() string {
	if r.noTokens != nil {
		return "its tokenizer cannot be read: " + whyNot(r.noTokens)
	}
	return r.Tokenizer.String()
}

// model reads the model, to say how tern sees it.
func (r *foreignReport) model(read func(string) (*modelfile.Weights, error), names func(string) string) (err error) {
	w, broken := read(r.Path)
	if broken != nil {
		r.CannotRun = whyNot(broken)
		return nil
	}
	defer func() { err = errors.CombineErrors(err, w.Close()) }()
	if r.Model, err = foreignTable(r.Path, w, r.Tensors, names); err != nil {
		return err
	}
	r.Tokenizer, r.Model.Tokenizer = r.Model.Tokenizer, nil
	return nil
}

func (a *app) printReport(r foreignReport, asJSON bool) error {
	if asJSON {
		return a.json(r)
	}
	if r.Model != nil {
		t := *r.Model
		t.Tokenizer = r.Tokenizer
		a.printForeign(&t)
		a.printf("\n")
	}
	a.printf("%s: %s\n", r.Path, r.title)
	if err := a.printMetadata(r.keys); err != nil {
		return err
	}
	if r.Model == nil {
		a.printf("%s\n", r.tokenizerLine())
	}
	a.printf("\n")
	if err := a.printTensors(r.Tensors); err != nil {
		return err
	}
	if r.CannotRun != "" {
		a.printf("\ntern cannot run it: %s\n", r.CannotRun)
	}
	return nil
}

// inspectHuggingFace shows a directory of the Hugging Face layout.
func (a *app) inspectHuggingFace(path string, asJSON bool) (err error) {
	d, err := huggingface.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, d.Close()) }()
	r := foreignReport{Path: path, Format: formatHuggingFace, title: "Hugging Face model of type " + d.Config.ModelType + ", config.json:"}
	if r.Config, r.keys, err = configMembers(filepath.Join(path, "config.json")); err != nil {
		return err
	}
	for _, name := range d.Names() {
		t, err := d.Info(name)
		if err != nil {
			return err
		}
		r.Tensors = append(r.Tensors, tensorRow{Name: name, Type: t.DType, Shape: t.Shape, Bytes: t.Size, File: t.File})
	}
	err = r.model(modelfile.ReadHuggingFace, func(hf string) string {
		name, _ := huggingface.FileName(hf)
		return name
	})
	if err != nil {
		return err
	}
	if r.Model == nil {
		switch v, err := d.Vocabulary(); {
		case err == nil:
			r.Tokenizer = vocabularyInfoOf(v)
		case !errors.Is(err, huggingface.ErrNotFound):
			r.noTokens = err
		}
	}
	return a.printReport(r, asJSON)
}

// configMembers reads the members of a config.json, in order of their names.
func configMembers(path string) (members map[string]json.RawMessage, keys gguf.Metadata, err error) {
	f, size, err := regularfile.Open(path)
	if err != nil {
		return nil, nil, errors.Wrap(err, "inspect")
	}
	defer func() { err = errors.CombineErrors(err, f.Close()) }()
	// The reader of the model has refused files that are too large.
	if err := json.NewDecoder(io.LimitReader(f, size)).Decode(&members); err != nil {
		return nil, nil, errors.Wrapf(huggingface.ErrFormat, "%s: %v", path, err)
	}
	for _, k := range slices.Sorted(maps.Keys(members)) {
		var line bytes.Buffer
		if err := json.Compact(&line, members[k]); err != nil {
			return nil, nil, errors.Wrapf(huggingface.ErrFormat, "%s: %s: %v", path, k, err)
		}
		keys = append(keys, gguf.KV{Key: k, Value: json.RawMessage(line.Bytes())})
	}
	return members, keys, nil
}

// inspectLlama2C shows a file of llama2.c.
func (a *app) inspectLlama2C(path string, asJSON bool) (err error) {
	f, err := llama2c.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, f.Close()) }()
	r := foreignReport{Path: path, Format: formatLlama2C, Config: f.Config, title: "llama2.c model, header:", keys: gguf.Metadata{
		{Key: "dim", Value: f.Dim},
		{Key: "hidden_dim", Value: f.Hidden},
		{Key: "n_layers", Value: f.Layers},
		{Key: "n_heads", Value: f.Heads},
		{Key: "n_kv_heads", Value: f.KVHeads},
		{Key: "vocab_size", Value: f.Vocab},
		{Key: "seq_len", Value: f.SeqLen},
		{Key: "shared classifier", Value: f.Shared},
	}}
	for _, name := range f.Names() {
		s, err := f.Shape(name)
		if err != nil {
			return err
		}
		r.Tensors = append(r.Tensors, tensorRow{Name: name, Type: "F32", Shape: s, Bytes: 4 * int64(s.Numel())})
	}
	if err := r.model(modelfile.ReadLlama2C, func(name string) string { return name }); err != nil {
		return err
	}
	return a.printReport(r, asJSON)
}
