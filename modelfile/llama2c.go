package modelfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/formats/llama2c"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/tokenizer"
)

// ReadLlama2C reads a model of llama2.c, with the tokenizer that lies beside it
// as tokenizer.bin or tokN.bin, N the size of the vocabulary. Without one it has
// no tokenizer.
func ReadLlama2C(path string) (*Weights, error) {
	f, err := llama2c.Open(path)
	if err != nil {
		return nil, err
	}
	w, err := fromLlama2C(f, filepath.Dir(path))
	if err != nil {
		return nil, errors.CombineErrors(errors.Wrapf(err, "%s", path), f.Close())
	}
	w.Info.Name = filepath.Base(path)
	w.close = f.Close
	return w, nil
}

func fromLlama2C(f *llama2c.File, dir string) (*Weights, error) {
	m := foreignModel{weights: map[string]*weight{}, config: model.Config{
		Dim: f.Dim, Layers: f.Layers, Heads: f.Heads, KVHeads: f.KVHeads, FFN: f.Hidden, Context: f.SeqLen,
		NormEps: 1e-5, RoPETheta: 10000, // constants of its run.c
		Quant: "none", Residual: "standard", Head: "f16",
	}}
	for _, name := range f.Names() {
		s, err := f.Shape(name)
		if err != nil {
			return nil, err
		}
		w := &weight{shape: s, float: tensor.F32}
		w.readFloats = func([]byte) (*tensor.Tensor, error) { return f.Tensor(name) }
		m.weights[name] = w
	}
	var err error
	if m.vocabulary, err = besideLlama2C(dir, f.Vocab); err != nil {
		return nil, err
	}
	return m.open()
}

// besideLlama2C returns the tokenizer in dir for a model of so many tokens, nil
// where there is none.
func besideLlama2C(dir string, vocab int) (*tokenizer.Vocabulary, error) {
	for _, name := range []string{fmt.Sprintf("tok%d.bin", vocab), "tokenizer.bin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return llama2c.ReadTokenizer(path, vocab)
		}
	}
	return nil, nil
}

// WriteLlama2C writes the weights, as f32, to path for llama2.c, and the tokenizer
// beside it as tokenizer.bin. ErrArchitecture if it cannot hold the model.
func (w *Weights) WriteLlama2C(path string) (Loss, error) {
	c := w.Model.Config
	if err := w.CheckLlama(Llama); err != nil {
		return Loss{}, err
	}
	if c.HeadWidth != 0 || c.RoPEFactors != nil || c.RoPEGain != 0 || c.RoPETheta != 10000 || c.NormEps != 1e-5 {
		return Loss{}, errors.WithHint(errors.Wrap(ErrArchitecture, "llama2.c has rotary positions of base 10000, unscaled, heads of dim / heads and norms with 1e-5"),
			"convert it to GGUF")
	}
	l := llamaWriter{w: w, arch: Llama, LlamaOptions: LlamaOptions{Arch: Llama, Type: ggml.F32}}
	if err := l.collect(); err != nil {
		return Loss{}, err
	}
	byName := map[string]int{}
	for i, t := range l.out {
		byName[t.Name] = i
	}
	head := llama2c.Config{
		Dim: c.Dim, Hidden: c.FFN, Layers: c.Layers, Heads: c.Heads, KVHeads: c.KVHeads, Vocab: c.Vocab, SeqLen: c.Context, Shared: c.Tied,
	}
	err := llama2c.Write(path, head, func(name string) (*tensor.Tensor, error) { return plain(l.out[byName[name]]) })
	if err != nil {
		return Loss{}, err
	}
	tok, err := w.Tokenizer()
	if err != nil {
		return l.loss, nil // it had none
	}
	v, err := tok.Vocabulary()
	if err != nil || v.Model != "llama" {
		return l.loss, err // its file is of SentencePiece only
	}
	path = filepath.Join(filepath.Dir(path), "tokenizer.bin")
	return l.loss, llama2c.WriteTokenizer(path, v)
}

// plain returns what t writes as f32.
func plain(t gguf.TensorInfo) (*tensor.Tensor, error) {
	var data bytes.Buffer
	if err := t.Data(&data); err != nil {
		return nil, err
	}
	out := tensor.New(tensor.Type{DType: tensor.F32, Shape: t.Shape})
	return out, t.Type.Dequantize(out.F32(), data.Bytes())
}
