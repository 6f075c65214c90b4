package residual_test

import (
	"math"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// stackOf is a graph of some sub-layers on x [4,8], and its gradient with
// respect to x.
func stackOf(t *testing.T, spec string) *graph.Graph {
	t.Helper()
	r := open(t, spec)
	return trace(t, func(b *graph.Builder) {
		x := b.Input("x", tensor.F32, 4, 8)
		y := stack(b, r, x, 5, true)
		b.Output("y", y)
		b.Output("dx", b.Gradients(b.SumAll(b.Mul(y, y)), []graph.Value{x})[0])
	})
}

// branches draws the weights of the sub-layers' own functions.
func branches(g *graph.Graph, v values) values {
	for name, w := range v {
		if strings.HasSuffix(name, ".branch") {
			copy(w, normals(name, len(w)))
		}
	}
	return v
}

// sameStacks compares two residuals' outputs and gradients.
func sameStacks(t *testing.T, one, other string, set func(one, other values)) {
	t.Helper()
	g, h := stackOf(t, one), stackOf(t, other)
	v, w := branches(g, moved(g, 0.7)), branches(h, moved(h, 0.7))
	set(v, w)
	a, b := compute(t, g, v, normal("x", 4, 8)), compute(t, h, w, normal("x", 4, 8))
	near(t, other+" against "+one, b[0], a[0], 1e-12)
	near(t, "the gradient of "+other+" against "+one, b[1], a[1], 1e-11)
}

// With weights at 0, the biases being the static logits, what follows the token
// is what does not.
func TestDynamicMHCLiteWithoutWeightsIsTheStaticOne(t *testing.T) {
	for _, n := range []string{"2", "4"} {
		sameStacks(t, "mhclite:streams="+n, "mhclite:mode=dynamic,streams="+n, func(static, dynamic values) {
			for name, w := range dynamic {
				scope, p, ok := strings.Cut(name, ".mhc.")
				switch {
				case !ok:
				case p == "weight":
					clear(w)
				case p == "pre_bias" || p == "post_bias":
					for i, v := range static[scope+".mhc."+strings.TrimSuffix(p, "bias")+"logits"] {
						w[i] = v + static[name][i]
					}
				case p == "res_bias" && n == "2":
					copy(w, []float64{static[scope+".mhc.alpha_logit"][0], 0})
				case p == "res_bias":
					copy(w, static[scope+".mhc.res_logits"])
				}
			}
		})
	}
}

func TestTheFirstValuesOfBothMHCLitesAreTheSame(t *testing.T) {
	for _, n := range []string{"2", "4"} {
		a, b := stackOf(t, "mhclite:streams="+n), stackOf(t, "mhclite:mode=dynamic,streams="+n)
		x := normal("x", 4, 8)
		near(t, "streams="+n, compute(t, b, branches(b, inits(b)), x)[0], compute(t, a, branches(a, inits(a)), x)[0], 1e-12)
	}
}

// Of two streams there are two permutations, so all three are one.
func TestOfTwoStreamsKroMHCIsMHCLite(t *testing.T) {
	sameStacks(t, "mhclite:streams=2,mode=dynamic", "kromhc:streams=2", func(one, other values) {
		for name := range one {
			copy(other[name], one[name])
		}
	})
}

// A bias that leaves nothing but the identity, and no weights for H.
func TestIHCIsMHCLiteWithTheIdentity(t *testing.T) {
	for _, n := range []int{2, 4} {
		spec := map[int]string{2: "streams=2", 4: "streams=4"}[n]
		sameStacks(t, "mhclite:mode=dynamic,"+spec, "ihc:"+spec, func(lite, ihc values) {
			for name, w := range lite {
				switch {
				case strings.HasSuffix(name, ".res_bias"):
					for i := range w {
						w[i] = -1000
					}
					w[0] = 0
				case strings.HasSuffix(name, ".mhc.weight"):
					clear(w[2*n*n*8:])
				}
				copy(ihc[name], w)
			}
		})
	}
}

// Where hyper-connections start they are the standard residual.
func TestHyperConnectionsStartAsTheStandardResidual(t *testing.T) {
	g := stackOf(t, "standard")
	x := normal("x", 4, 8)
	want := compute(t, g, branches(g, inits(g)), x)
	for _, spec := range []string{"shc:streams=2", "shc:streams=4", "hc:streams=2", "hc:streams=4"} {
		h := stackOf(t, spec)
		got := compute(t, h, branches(h, inits(h)), x)
		near(t, spec, got[0], want[0], 1e-12)
		near(t, spec+", gradient", got[1], want[1], 1e-11)
	}
}

// The papers add up the streams at the end. A norm follows, to which that and
// the mean are the same.
func TestTheNormOfTheMeanIsThatOfTheSum(t *testing.T) {
	for _, spec := range []string{"mhclite:streams=4", "kromhc:streams=8", "hc:streams=2"} {
		r := open(t, spec)
		n := r.(framework.Mixer).Width()
		g := trace(t, func(b *graph.Builder) {
			s, one := b.Input("s", tensor.F32, 4, n, 8), b.Const(1, tensor.T(tensor.F32, 8))
			b.Output("mean", b.RMSNorm(r.Collapse(b, s), one, 1e-6))
			b.Output("sum", b.RMSNorm(b.Reshape(b.Sum(s, 1), 4, 8), one, 1e-6))
		})
		out := compute(t, g, nil, normal("s", 4, n, 8))
		near(t, spec, out[0], out[1], 1e-4) // up to the norm's epsilon
	}
}

// Equal streams stay equal only where sub-layers do not tell them apart: the
// gradients of the coefficients do.
func TestTheGradientTellsStreamsApart(t *testing.T) {
	for _, spec := range []string{
		"mhclite:streams=2,mode=dynamic", "mhclite:streams=4,mode=dynamic", "mhc:streams=4", "kromhc:streams=8", "ihc:streams=4", "shc:streams=4", "hc:streams=4",
	} {
		r := open(t, spec)
		scope := ".mhc.post_bias"
		if strings.Contains(spec, "hc:") && !strings.Contains(spec, "mhc") && !strings.HasPrefix(spec, "ihc") {
			scope = ".hc.post"
		}
		g := trace(t, func(b *graph.Builder) {
			y := stack(b, r, b.Input("x", tensor.F32, 4, 8), 5, true)
			for _, p := range b.Params() {
				if p.N.Name() == subLayer(1)+scope {
					b.Output("d", b.Gradients(b.SumAll(b.Mul(y, y)), []graph.Value{p})[0])
				}
			}
		})
		d := compute(t, g, branches(g, inits(g)), normal("x", 4, 8))[0]
		if math.Abs(d[0]-d[1]) < 1e-6 {
			t.Errorf("%s: gradients %v are the same for all streams", spec, d)
		}
	}
}
