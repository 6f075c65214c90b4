package residual_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// The first values of sub-layer 3, whose home is stream 3 of four or eight and
// stream 1 of two, as the papers and the report have them. Of a parameter with
// one first value that one is given.
func TestFirstValues(t *testing.T) {
	for spec, want := range map[string]values{
		"mhclite:streams=2":             {"alpha_logit": {8}, "pre_logits": {0}, "pre_bias": {-1, 1}, "post_logits": {0}, "post_bias": {-1, 1}},
		"mhclite:streams=2,init=report": {"alpha_logit": {5}, "pre_logits": {0}, "pre_bias": {0.5}, "post_logits": {0}, "post_bias": {0.5}},
		"mhclite:streams=2,mode=dynamic": {
			"norm": {1}, "weight": {0}, "pre_gate": {0.01}, "pre_bias": {-1, 1}, "post_gate": {0.01}, "post_bias": {-1, 1},
			"res_gate": {0.01}, "res_bias": {0, -8},
		},
		"mhc:streams=2,mode=static": {"pre_bias": {-1, 1}, "post_bias": {-1, 1}, "res_bias": {0, -8, -8, 0}},
		"kromhc:streams=8": {
			"norm": {1}, "weight": {0}, "pre_gate": {0.01}, "pre_bias": {-1, -1, -1, 1, -1, -1, -1, -1},
			"post_gate": {0.01}, "post_bias": {-1, -1, -1, 1, -1, -1, -1, -1}, "res_gate": {0.01}, "res_bias": {0, -8, 0, -8, 0, -8},
		},
		"ihc:streams=2": {"norm": {1}, "weight": {0}, "pre_gate": {0.01}, "pre_bias": {-1, 1}, "post_gate": {0.01}, "post_bias": {-1, 1}},
		"shc:streams=4": {"pre": {0, 0, 0, 1}, "res": {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, "post": {1}},
		"hc:streams=2":  {"pre": {0, 1}, "res": {1, 0, 0, 1}, "post": {1}, "norm": {1}, "weight": {0}, "alpha": {0.01}, "beta": {0.01}},
	} {
		r := open(t, spec)
		g := trace(t, func(b *graph.Builder) {
			s := r.Expand(b, b.Input("x", tensor.F32, 1, 3))
			b.Output("y", r.Read(b, 3, s))
			b.Output("s", r.Write(b, 3, s, b.Input("y", tensor.F32, 1, 3)))
		})
		got := inits(g)
		for name, v := range got {
			_, p, _ := strings.Cut(name, ".")
			if len(want[p]) == 1 {
				want[p] = slices.Repeat(want[p], len(v))
			}
			if !slices.Equal(v, want[p]) {
				t.Errorf("%s: %s starts at %v, want %v", spec, name, v, want[p])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d parameters, want %d", spec, len(got), len(want))
		}
	}
}
