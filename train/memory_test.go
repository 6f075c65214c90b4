package train_test

import (
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

// The memory of a step of the reference model beside its parameters, moments
// and gradients: logits in blocks, norms and gates computed again, weights that
// never stand as floats. Each of these is worth 100 MB or more.
func TestAStepOfTheReferenceModelFitsItsMemory(t *testing.T) {
	be, err := framework.Backends.Open("avx2:threads=2")
	if err != nil {
		t.Skip(err)
	}
	defer be.Close()
	m := must(model.New(must(model.Preset("nano-125m"))))
	r := must(train.LookupRecipe("report"))
	e := be.(framework.Estimator)
	for name, g := range map[string]struct{ most, bytes int64 }{
		"accumulate": {700 << 20, must(e.Estimate(must(m.Accumulate(4, 256, 1))))},
		"apply":      {330 << 20, must(e.Estimate(must(train.Apply(m, r))))},
	} {
		t.Logf("%s: %d MiB", name, g.bytes>>20)
		if g.bytes > g.most {
			t.Errorf("%s takes %d MiB, wants %d at most", name, g.bytes>>20, g.most>>20)
		}
	}
}
