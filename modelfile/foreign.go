package modelfile

import (
	"maps"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/layers"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/tokenizer"
)

// foreignModel is a model of another program: what it says of itself, and its
// tensors by the names that llama.cpp's files give them.
type foreignModel struct {
	config     model.Config // but for Tied and Tokenizer; sizes checks or sets Vocab
	halves     bool         // rotary pairs are element i and i + D/2 of a head
	weights    map[string]*weight
	vocabulary *tokenizer.Vocabulary // nil: it has none
	info       Info
	used       map[string]bool
}

// fromForeignGGUF reads a model of one of the architectures of foreign.
func fromForeignGGUF(f *gguf.File, name string) (*Weights, error) {
	a := foreign[name]
	c, err := foreignConfig(f.Metadata, name, a)
	if err != nil {
		return nil, err
	}
	v, err := readVocabulary(f.Metadata)
	if err != nil {
		return nil, err
	}
	m := foreignModel{config: c, halves: a.halves, vocabulary: v, info: readInfo(f.Metadata), weights: map[string]*weight{}}
	for _, t := range f.Tensors {
		from := sourceIn(f, t.Name)
		w := blocks(t.Type, t.Shape, from)
		if t.Type == ggml.Q2_0 && len(t.Shape) == 2 {
			if err := levelsOfQ2(from, w); err != nil {
				return nil, err
			}
		}
		m.weights[t.Name] = w
	}
	return m.open()
}

// sourceIn reads a tensor of a file, or shows it where it lies in the mapped file
// and has its pages leave this process' memory afterwards.
func sourceIn(f *gguf.File, name string) source {
	return source{
		view: func(use func([]byte) error) error {
			data, err := f.View(name)
			if err != nil {
				return err
			}
			defer f.Release(name)
			return f.Guard(func() error { return use(data) })
		},
		read: func(dst []byte) error { return f.ReadInto(name, dst) },
	}
}

// levelsOfQ2 looks whether a Q2_0 tensor is ternary, as most are, or not.
func levelsOfQ2(from source, w *weight) error {
	return from.view(func(data []byte) error {
		if hasLevel2(data) {
			w.codes.Format.Levels, w.codes.Fine = []int8{-1, 0, 1, 2}, true
		}
		return nil
	})
}

// open makes the model and reads its tensors.
func (f *foreignModel) open() (*Weights, error) {
	f.used = map[string]bool{}
	if err := f.sizes(); err != nil {
		return nil, err
	}
	tok := f.tokenizer()
	if err := f.ropeFactors(); err != nil {
		return nil, err
	}
	m, err := f.model()
	if err != nil {
		return nil, err
	}
	nodes, err := states(m)
	if err != nil {
		return nil, err
	}
	w := &Weights{Model: m, lazy: map[string]lazy{}, Info: f.info}
	bases := map[string]*lazyWeight{}
	for _, n := range nodes {
		base, kind := cutKind(n.Name())
		if bases[base] == nil {
			if bases[base], err = f.lazyWeight(base, n.Out[0]); err != nil {
				return nil, err
			}
		}
		w.lazy[n.Name()] = lazy{n.Out[0], func(dst *tensor.Tensor) error { return bases[base].fill(kind, dst) }}
	}
	if err := f.checkUnused(); err != nil {
		return nil, err
	}
	if w.own, err = tok(); err == nil && w.own != nil {
		m.Config.Tokenizer = w.own.Name()
	}
	return w, err
}

// tokenizer makes the tokenizer beside what follows, which takes as long; the
// function that it returns waits for it. It is nil where there is none.
func (f *foreignModel) tokenizer() func() (*tokenizer.Tokenizer, error) {
	if f.vocabulary == nil {
		return func() (*tokenizer.Tokenizer, error) { return nil, nil }
	}
	type result struct {
		tok *tokenizer.Tokenizer
		err error
	}
	made := make(chan result, 1)
	go func() {
		tok, err := tokenizer.New(f.vocabulary)
		made <- result{tok, err}
	}()
	return func() (*tokenizer.Tokenizer, error) {
		r := <-made
		if r.err != nil {
			return nil, errors.WithHint(errors.Wrapf(ErrModel, "%v", r.err), "the file's tokenizer is damaged, or of a kind that tern does not know")
		}
		return r.tok, nil
	}
}

// cutKind splits the name of a state: blk.0.attn.wq.codes is the codes of
// blk.0.attn.wq.
func cutKind(state string) (base, kind string) {
	at := strings.LastIndexByte(state, '.')
	return state[:at], state[at+1:]
}

// sizes fills in what only the tensors and the vocabulary tell.
func (f *foreignModel) sizes() error {
	w, err := f.weight("tok_embed")
	if err != nil {
		return err
	}
	if len(w.shape) != 2 {
		return foreignError("tensor %q is %v, not a matrix", fileName("tok_embed.weight"), w.shape)
	}
	if v := f.config.Vocab; v != 0 && v != w.shape[0] {
		return foreignError("the metadata have a vocabulary of %d (vocab_size), tensor %q %d rows", v, fileName("tok_embed.weight"), w.shape[0])
	}
	f.config.Vocab = w.shape[0]
	f.config.Tied = f.weights[fileName("lm_head.weight")] == nil
	if v := f.vocabulary; v != nil && len(v.Tokens) > f.config.Vocab {
		return foreignError("the vocabulary has %d tokens, tensor %q %d rows", len(v.Tokens), fileName("tok_embed.weight"), f.config.Vocab)
	}
	return nil
}

// weight returns the tensor of a state's base name.
func (f *foreignModel) weight(base string) (*weight, error) {
	name := fileName(base + ".weight")
	w := f.weights[name]
	if w == nil {
		return nil, errors.WithHint(errors.Wrapf(ErrModel, "tensor %q is missing", name), "the file is incomplete, or of an architecture that tern does not run")
	}
	f.used[name] = true
	return w, nil
}

// ropeFactors takes the divisors of frequencies that are a tensor.
func (f *foreignModel) ropeFactors() error {
	w := f.weights[ropeFreqs]
	if w == nil {
		return nil
	}
	f.used[ropeFreqs] = true
	pairs := f.config.HeadDim() / 2
	if w.shape.Numel() != pairs || w.float != tensor.F32 {
		return foreignError("tensor %q is %v, wants %d f32 values", ropeFreqs, w.shape, pairs)
	}
	t, err := w.readFloats(nil)
	if err != nil {
		return err
	}
	factors := make([]float64, pairs)
	for i, v := range t.F32() {
		factors[i] = float64(v)
		if f.config.RoPEFactors != nil {
			factors[i] *= f.config.RoPEFactors[i]
		}
	}
	f.config.RoPEFactors = factors
	return nil
}

// linears are the last parts of the names of linear layers.
var linears = []string{"wq", "wk", "wv", "wo", "gate", "up", "down"}

// isRotated reports whether a layer's output is turned by rotary positions.
func isRotated(base string) bool {
	return strings.HasSuffix(base, ".wq") || strings.HasSuffix(base, ".wk")
}

func isLinear(base string) bool {
	return slices.Contains(linears, base[strings.LastIndexByte(base, '.')+1:])
}

// model makes the model, each weight stored as its type asks for.
func (f *foreignModel) model() (*model.Model, error) {
	plain, err := model.New(f.config)
	if err != nil {
		return nil, ofMetadata(err, f.config)
	}
	nodes, err := states(plain)
	if err != nil {
		return nil, err
	}
	stored := map[string]layers.Stored{}
	for _, n := range nodes {
		base, _ := cutKind(n.Name())
		w, err := f.weight(base)
		if err != nil {
			return nil, err
		}
		if !sameElements(w.shape, n.Out[0].Shape) || len(w.shape) != len(n.Out[0].Shape) {
			return nil, errors.WithHint(errors.Wrapf(ErrModel, "tensor %q is %v, the metadata asks for %v", fileName(base+".weight"), w.shape, n.Out[0].Shape),
				"the file is damaged, or its metadata is of another model")
		}
		if len(w.shape) == 2 {
			stored[base] = w.stored(isLinear(base))
		}
	}
	m, err := model.NewStored(f.config, stored)
	return m, ofMetadata(err, f.config)
}

// ofMetadata says that it was a file that chose what is wrong with a model:
// neither the kind of the error nor its hint is for one who did, but for a plugin,
// which they can install.
func ofMetadata(err error, c model.Config) error {
	if err == nil {
		return nil
	}
	hint := "the file is damaged, or made for another program: copy or export it again"
	plugin := strings.HasPrefix(c.Quant, "plugin:") || strings.HasPrefix(c.Residual, "plugin:")
	if hints := errors.GetAllHints(err); plugin && len(hints) > 0 {
		hint = strings.Join(hints, "; ")
	}
	return errors.WithHint(errors.Wrapf(ErrModel, "its metadata: %v", err), hint)
}

// checkUnused refuses a model with tensors that tern would leave out.
func (f *foreignModel) checkUnused() error {
	for _, name := range slices.Sorted(maps.Keys(f.weights)) {
		if !f.used[name] {
			return foreignError("tensor %q has no place in the model", name)
		}
	}
	return nil
}
