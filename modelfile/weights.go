package modelfile

import (
	"context"
	"encoding/binary"
	"math"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/tokenizer"
)

// ErrModel is returned for a file that holds no model that tern can run.
var ErrModel = errors.New("not a tern model")

// Pass is how a model from a file is traced: packed weights, f16 embedding.
var Pass = model.Pass{Packed: true, F16: true}

// Weights are what a model computes with: the states of its graphs traced with
// Pass, by name.
type Weights struct {
	Model   *model.Model
	Tensors map[string]*tensor.Tensor // see Tensor
	Info    Info
	lazy    map[string]lazy // the states that Tensors does not have
	close   func() error
	// own is the tokenizer of a file of another program; nil where the
	// configuration names one.
	own *tokenizer.Tokenizer
}

// Tokenizer returns the model's tokenizer.
func (w *Weights) Tokenizer() (*tokenizer.Tokenizer, error) {
	if w.own != nil {
		return w.own, nil
	}
	if w.Model.Config.Tokenizer == "" {
		return nil, errors.WithHint(errors.Wrap(ErrModel, "the model has no tokenizer"), "name token ids instead of text, or convert it again with its tokenizer's files beside it")
	}
	return tokenizer.Open(w.Model.Config.Tokenizer)
}

// Info describes a model to people.
type Info struct {
	Name        string   // such as "tern tiny"
	Description string   // how it was made
	License     string   // of the weights
	BitsPerByte float64  // measured on text that it did not see; 0 if it was not
	CreatedBy   string   // program and version
	Source      string   // what it was exported from, such as a run and a checkpoint's name
	Plugins     []Plugin // that it was made with, at most one of a kind
}

// states lists the states that the weights of m must cover.
func states(m *model.Model) ([]*graph.Node, error) {
	g, err := m.LossOf(1, 1, Pass)
	if err != nil {
		return nil, err
	}
	return g.States, nil
}

// Collect takes the weights of m out of a store in which m was trained: packed
// weights as they are, the embedding and an f16 head rounded to f16.
func Collect(ctx context.Context, m *model.Model, s framework.Store) (*Weights, error) {
	nodes, err := states(m)
	if err != nil {
		return nil, err
	}
	w := &Weights{Model: m, Tensors: map[string]*tensor.Tensor{}}
	for _, n := range nodes {
		t, err := s.Get(ctx, n.Name())
		if err != nil {
			return nil, errors.Wrap(err, "collect weights")
		}
		if n.Out[0].DType == tensor.F16 && t.DType == tensor.F32 {
			t = toF16(t)
		}
		if err := checkFinite(n.Name(), t); err != nil {
			return nil, err
		}
		if !t.Type.Equal(n.Out[0]) {
			return nil, errors.Wrapf(framework.ErrMismatch, "state %q is %v, the model declares %v", n.Name(), t.Type, n.Out[0])
		}
		w.Tensors[n.Name()] = t
	}
	return w, nil
}

func toF16(t *tensor.Tensor) *tensor.Tensor {
	h := tensor.New(tensor.Type{DType: tensor.F16, Shape: t.Shape})
	bits := h.U16()
	for i, v := range t.F32() {
		bits[i] = tensor.F32ToF16(v)
	}
	return h
}

// Put puts the weights into a store, which may go on using their memory: they
// are not changed afterwards. Those of a file that is still open may be read from
// it only when a run needs them.
func (w *Weights) Put(ctx context.Context, s framework.Store) error {
	put := s.Put
	if b, ok := s.(framework.Borrower); ok {
		put = b.Borrow
	}
	for name, t := range w.Tensors {
		if err := put(ctx, name, t); err != nil {
			return errors.Wrapf(err, "load %s", name)
		}
	}
	return w.putLazy(ctx, s)
}

// checkFinite refuses f32 and f16 weights that are no numbers.
func checkFinite(name string, t *tensor.Tensor) error {
	at := -1
	switch t.DType {
	case tensor.F16:
		if finiteHalves(t.Data) {
			return nil
		}
		at = slices.IndexFunc(t.U16(), func(h uint16) bool { return h&0x7c00 == 0x7c00 })
	case tensor.F32:
		at = slices.IndexFunc(t.F32(), func(v float32) bool { return math.Float32bits(v)&0x7f800000 == 0x7f800000 })
	}
	if at < 0 {
		return nil
	}
	return errors.WithHint(errors.Wrapf(ErrModel, "tensor %q: element %d is no finite number", name, at), "the file is damaged, or its training diverged")
}

// finiteHalves reports whether all f16 values of b are finite, four at a time:
// one added to an exponent of ones carries into the sign, whatever its
// neighbors hold. A length that is no multiple of four has it say no.
func finiteHalves(b []byte) bool {
	const exponents, ones, signs = 0x7c007c007c007c00, 0x0400040004000400, 0x8000800080008000
	for len(b) >= 8 {
		if (binary.NativeEndian.Uint64(b)&exponents+ones)&signs != 0 {
			return false
		}
		b = b[8:]
	}
	return len(b) == 0
}
