package modelfile

import (
	"testing"

	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// zeroWeights are weights of m whose values do not matter.
func zeroWeights(t *testing.T, m *model.Model) *Weights {
	t.Helper()
	nodes, err := states(m)
	if err != nil {
		t.Fatal(err)
	}
	w := &Weights{Model: m, Tensors: map[string]*tensor.Tensor{}}
	for _, n := range nodes {
		w.Tensors[n.Name()] = tensor.New(n.Out[0])
	}
	return w
}

func TestSizesAreThoseOfTheFile(t *testing.T) {
	for _, spec := range []string{"ternary:group=128", "ternary:group=64", "ternary:group=32", "ternary:group=row", "ternary:group=tensor", "int8:group=32", "int8:group=32,scale=f32", "int8:group=64", "none"} {
		for _, head := range model.Heads {
			c, err := model.Preset("tiny")
			if err != nil {
				t.Fatal(err)
			}
			c.Layers, c.Quant, c.Head, c.Tied = 1, spec, head, false
			m, err := model.New(c)
			if err != nil {
				t.Fatal(err)
			}
			sizes, err := Sizes(m)
			if err != nil {
				t.Fatal(err)
			}
			var sum int64
			for _, n := range sizes {
				sum += n
			}
			if want, err := zeroWeights(t, m).Bytes(); err != nil || sum != want {
				t.Errorf("%s, head %s: %d bytes, the file's tensors take %d (%v)", spec, head, sum, want, err)
			}
		}
	}
}
