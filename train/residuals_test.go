package train_test

import (
	"strings"
	"testing"

	"github.com/ternlm/tern/diagnose"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

// family is every residual of several streams whose streams part.
var family = []string{
	"mhclite:streams=2", "mhclite:streams=4,mode=dynamic", "mhc:streams=2", "mhc:streams=4,mode=static", "kromhc:streams=4", "kromhc:streams=8,mode=static",
	"ihc:streams=2", "hc:streams=2", "shc:streams=4",
}

// A few steps lower the loss and move every parameter of the residual.
func TestEveryResidualTrains(t *testing.T) {
	be := backend(t, "scalar:threads=2")
	for _, spec := range family {
		t.Run(spec, func(t *testing.T) {
			m := small(t, func(c *model.Config) {
				c.Residual, c.Vocab, c.Tokenizer, c.Dim, c.FFN, c.Quant = spec, 512, "gpt2:512", 32, 64, "ternary:group=32"
			})
			tr, src := start(t, be, m, quick(func(r *train.Recipe) { r.Steps, r.Accum = 30, 1 }))
			defer tr.Close()
			before := residualOf(t, tr)
			losses := steps(t, tr, src, 30)
			if first, last := losses[0], mean(losses[25:]); last > first-0.5 {
				t.Errorf("the loss goes from %.3f to %.3f", first, last)
			}
			for name, now := range residualOf(t, tr) {
				moved := false
				for i, v := range now {
					moved = moved || v != before[name][i]
				}
				if !moved && !inert(name) {
					t.Errorf("%s is what it was", name)
				}
			}
		})
	}
}

// inert reports whether a parameter is of a matrix that changes nothing where
// its columns and rows sum to 1: the first one mixes streams that are still
// alike, and after the last comes their mean.
func inert(name string) bool {
	ends := strings.HasPrefix(name, "blk.0.attn.") || strings.HasPrefix(name, "blk.1.ffn.")
	return ends && (strings.HasSuffix(name, ".alpha_logit") || strings.Contains(name, ".res_"))
}

// residualOf copies the parameters of the residual.
func residualOf(t *testing.T, tr *train.Trainer) map[string][]float32 {
	t.Helper()
	all := map[string][]float32{}
	for _, p := range tr.Parameters() {
		if p.Category == model.Residuals {
			all[p.Name] = append([]float32{}, must(tr.Store().Get(t.Context(), p.Name)).F32()...)
		}
	}
	return all
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x / float64(len(v))
	}
	return sum
}

// The report's init treats all streams alike, so they stay equal to the last
// bit, whatever the kernels: rounding must not tell them apart either, since
// training would amplify that. The gain is one learned scalar a sub-layer.
func TestStreamsThatAreTreatedAlikeStayEqual(t *testing.T) {
	for _, name := range []string{"scalar:threads=2", "avx2:threads=2"} {
		for _, spec := range []string{"mhclite:streams=2,init=report", "mhclite:streams=4,init=report"} {
			t.Run(name+"/"+spec, func(t *testing.T) {
				be := backend(t, name)
				m := small(t, func(c *model.Config) {
					c.Residual, c.Vocab, c.Tokenizer, c.Dim, c.FFN, c.Quant = spec, 512, "gpt2:512", 64, 128, "ternary:group=32"
				})
				tr, src := start(t, be, m, quick(func(r *train.Recipe) { r.Steps, r.Accum, r.OtherLR = 30, 1, 0.04 }))
				defer tr.Close()
				steps(t, tr, src, 30)
				text := diagnose.Windows{Tokens: make([]int32, 64), Targets: make([]int32, 64), Batch: 2, Window: 32}
				for i := range text.Tokens {
					text.Tokens[i], text.Targets[i] = int32(i*7%512), int32(i*7%511+1)
				}
				d := must(train.NewDiagnoser(t.Context(), tr, text))
				defer d.Close()
				for l, v := range must(d.Run(t.Context())).Divergence {
					if v != 0 {
						t.Errorf("sub-layer %d: streams diverge by %g", l, v)
					}
				}
			})
		}
	}
}
