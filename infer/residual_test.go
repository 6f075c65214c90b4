package infer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/modelfile"
)

// What follows the token follows it alone: a token by itself, a few of them and
// a whole sequence give the same bits, whatever kernels their shapes are for.
func TestDecodeEqualsTheForwardWhereTheResidualFollowsTheToken(t *testing.T) {
	for _, spec := range []string{
		"mhclite:streams=2,mode=dynamic", "mhclite:streams=4,mode=dynamic", "mhc:streams=2", "mhc:streams=4", "kromhc:streams=8", "ihc:streams=2", "hc:streams=2", "hc:streams=4",
	} {
		t.Run(spec, func(t *testing.T) {
			c := base
			c.Residual = spec
			eachBackend(t, func(t *testing.T, be framework.Backend) {
				ctx := context.Background()
				w := weights(t, be, c)
				moveResidual(w)
				tokens := sequence(80, c.Vocab)
				want := forward(t, be, w, tokens)
				m := must(infer.Load(ctx, be, w))
				defer m.Close()
				for _, cut := range []int{1, 2, 3, 9, 33, 64} {
					s := must(m.NewSession())
					sameBits(t, fmt.Sprintf("prefill of %d", cut), must(s.Feed(ctx, tokens[:cut])), want[(cut-1)*c.Vocab:cut*c.Vocab])
					sameBits(t, fmt.Sprintf("one more after %d", cut), must(s.Feed(ctx, tokens[cut:cut+1])), want[cut*c.Vocab:(cut+1)*c.Vocab])
					s.Close()
				}
			})
		})
	}
}

// moveResidual moves the residual's parameters off their inits, with which
// nothing follows the token.
func moveResidual(w *modelfile.Weights) {
	for name, t := range w.Tensors {
		if !strings.Contains(name, ".mhc.") && !strings.Contains(name, ".hc.") {
			continue
		}
		k := rng.NewKey(11, name)
		for i := range t.F32() {
			t.F32()[i] += float32(0.3 * k.Normal(uint64(i)))
		}
	}
}
