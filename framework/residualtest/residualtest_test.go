package residualtest_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/residualtest"
	_ "github.com/ternlm/tern/residual"
)

// gated is x + sigmoid(g) F(x), with hooks that break it.
type gated struct {
	expand, collapse func(b *graph.Builder, x graph.Value) graph.Value
	read             func(b *graph.Builder, l int, s graph.Value) graph.Value
	write            func(b *graph.Builder, l int, s, y graph.Value) graph.Value
}

func (gated) Spec() string { return "gated" }

func (r gated) Expand(b *graph.Builder, x graph.Value) graph.Value {
	if r.expand != nil {
		return r.expand(b, x)
	}
	return x
}

func (r gated) Read(b *graph.Builder, l int, s graph.Value) graph.Value {
	if r.read != nil {
		return r.read(b, l, s)
	}
	return s
}

func (r gated) Write(b *graph.Builder, l int, s, y graph.Value) graph.Value {
	if r.write != nil {
		return r.write(b, l, s, y)
	}
	return b.Add(s, b.Mul(y, gate(b)))
}

func (r gated) Collapse(b *graph.Builder, s graph.Value) graph.Value {
	if r.collapse != nil {
		return r.collapse(b, s)
	}
	return s
}

func gate(b *graph.Builder) graph.Value {
	return b.Sigmoid(b.Param("gate", graph.ConstInit(1), 1))
}

// streams carries n streams, mixed by the rows that matrix gives.
type streams struct {
	n      int
	claims bool
	matrix func(b *graph.Builder, l int) graph.Value // [n,n]
	mixing func(b *graph.Builder, l int) graph.Value // what it says, matrix when nil
	leak   float64
}

func (r streams) Spec() string { return fmt.Sprintf("streams:%d", r.n) }

func (r streams) Expand(b *graph.Builder, x graph.Value) graph.Value {
	all := make([]graph.Value, r.n)
	for i := range all {
		all[i] = b.Reshape(x, x.Dim(0), 1, x.Dim(1))
	}
	return b.Concat(1, all...)
}

func (r streams) Read(b *graph.Builder, _ int, s graph.Value) graph.Value {
	return b.StreamRead(s, b.Param("pre", graph.ConstInit(0.6), r.n))
}

func (r streams) Write(b *graph.Builder, l int, s, y graph.Value) graph.Value {
	s = b.StreamWrite(s, y, r.matrix(b, l), b.Param("post", graph.ConstInit(1), r.n))
	return b.Scale(s, 1-r.leak)
}

func (r streams) Collapse(b *graph.Builder, s graph.Value) graph.Value {
	return b.Reshape(b.Mean(s, 1), s.Dim(0), s.Dim(2))
}

func (r streams) Mixing(b *graph.Builder, l int, _ graph.Value) graph.Value {
	if r.mixing != nil {
		return r.mixing(b, l)
	}
	return r.matrix(b, l)
}

func (r streams) Width() int             { return r.n }
func (r streams) DoublyStochastic() bool { return r.claims }

// exchange is [[a, 1-a], [1-a, a]].
func exchange(b *graph.Builder, _ int) graph.Value {
	a := b.Sigmoid(b.Param("alpha", graph.ConstInit(2), 1))
	rest := b.Sub(b.Like(a, 1), a)
	return b.Reshape(b.Concat(0, a, rest, rest, a), 2, 2)
}

// free is any matrix, the identity at first.
func free(b *graph.Builder, _ int) graph.Value {
	return b.Param("h", graph.ListInit(1, 0, 0, 0, 1, 0, 0, 0, 1), 3, 3)
}

// rows is stochastic by rows alone.
func rows(b *graph.Builder, _ int) graph.Value {
	return b.Softmax(b.Param("h", graph.ListInit(2, 0, 0, 1), 2, 2))
}

func options(r framework.Residual) residualtest.Options {
	return residualtest.Options{
		Open:  func() (framework.Residual, error) { return r, nil },
		Parse: func(string) (framework.Residual, error) { return r, nil },
	}
}

func TestGoodResidualsPass(t *testing.T) {
	for name, r := range map[string]framework.Residual{
		"gated": gated{}, "exchange": streams{n: 2, claims: true, matrix: exchange}, "free": streams{n: 3, matrix: free},
	} {
		t.Run(name, func(t *testing.T) { residualtest.Run(t, options(r)) })
	}
}

func TestBuiltInsPass(t *testing.T) {
	for _, spec := range []string{"standard", "scaled", "scaled:init=0", "mhclite", "mhclite:streams=4", "mhclite:streams=2,init=report"} {
		t.Run(spec, func(t *testing.T) {
			residualtest.Run(t, residualtest.Options{
				Open:      func() (framework.Residual, error) { return framework.Residuals.Open(spec) },
				Backend64: func() (framework.Backend, error) { return scalar.Open64(1), nil },
			})
		})
	}
}

// TestFlawsAreFound breaks a good residual in one way each.
func TestFlawsAreFound(t *testing.T) {
	calls := 0.0
	skew := func(b *graph.Builder, l int) graph.Value {
		return b.Add(exchange(b, l), b.ConstList([]float64{0, 1e-5, 0, 0}, 2, 2))
	}
	signed := func(b *graph.Builder, _ int) graph.Value { // rows and columns sum to 1
		a := b.Param("a", graph.ConstInit(1.5), 1)
		rest := b.Sub(b.Like(a, 1), a)
		return b.Reshape(b.Concat(0, a, rest, rest, a), 2, 2)
	}
	turned := func(b *graph.Builder, l int) graph.Value { return b.Transpose(rows(b, l), 1, 0) }
	for name, c := range map[string]struct {
		rule string
		r    framework.Residual
		bend func(o *residualtest.Options)
	}{
		"parses to another": {"spec", gated{}, func(o *residualtest.Options) {
			o.Parse = func(string) (framework.Residual, error) { return streams{n: 2, matrix: exchange}, nil }
		}},
		"an option is not printed": {"spec", streams{n: 2, matrix: exchange}, func(o *residualtest.Options) {
			o.Parse = func(string) (framework.Residual, error) { return streams{n: 2, matrix: rows}, nil }
		}},
		"a stream as input": {"shapes", gated{read: func(b *graph.Builder, _ int, s graph.Value) graph.Value {
			return b.Reshape(s, 1, s.Dim(0), s.Dim(1))
		}}, nil},
		"only even widths": {"shapes", gated{collapse: func(b *graph.Builder, s graph.Value) graph.Value {
			return b.Reshape(b.Reshape(s, s.Shape().Numel()/2, 2), s.Shape()...)
		}}, nil},
		"a sum at the end": {"identity", gated{collapse: func(b *graph.Builder, s graph.Value) graph.Value { return b.Scale(s, 2) }}, nil},
		"a rounded embedding": {"identity", gated{expand: func(b *graph.Builder, x graph.Value) graph.Value {
			return b.Scale(b.Round(b.Scale(x, 1000)), 0.001)
		}}, nil},
		"the branch is dropped": {"branch", gated{write: func(b *graph.Builder, _ int, s, y graph.Value) graph.Value {
			return b.Add(s, b.Mul(b.StopGrad(y), gate(b)))
		}}, nil},
		"nothing is read": {"branch", gated{read: func(b *graph.Builder, _ int, s graph.Value) graph.Value { return b.StopGrad(s) }}, nil},
		"a gate without gradient": {"gradient", gated{write: func(b *graph.Builder, _ int, s, y graph.Value) graph.Value {
			return b.Add(s, b.Mul(y, b.StopGrad(gate(b))))
		}}, nil},
		"a parameter of all": {"parameters", gated{write: func(b *graph.Builder, _ int, s, y graph.Value) graph.Value {
			return b.Add(s, b.Mul(y, b.GlobalParam("gate", graph.ConstInit(1), 1)))
		}}, nil},
		"a parameter of Expand": {"parameters", gated{expand: func(b *graph.Builder, x graph.Value) graph.Value {
			return b.Mul(x, b.Param("scale", graph.ConstInit(1), 1))
		}}, nil},
		"a parameter of some": {"parameters", gated{write: func(b *graph.Builder, l int, s, y graph.Value) graph.Value {
			if l == 3 {
				y = b.Mul(y, gate(b))
			}
			return b.Add(s, y)
		}}, nil},
		"a buffer": {"parameters", gated{read: func(b *graph.Builder, _ int, s graph.Value) graph.Value {
			return b.Add(s, b.Buffer("memory", s.Type()))
		}}, nil},
		"another text each time": {"text", gated{write: func(b *graph.Builder, _ int, s, y graph.Value) graph.Value {
			calls++
			return b.Add(s, b.Scale(y, calls))
		}}, nil},
		"says another matrix":     {"mixing", streams{n: 2, claims: true, matrix: exchange, mixing: skew}, nil},
		"says the transpose":      {"mixing", streams{n: 2, matrix: rows, mixing: turned}, nil},
		"rows alone sum to 1":     {"doubly stochastic", streams{n: 2, claims: true, matrix: rows}, nil},
		"off by 1e-5":             {"doubly stochastic", streams{n: 2, claims: true, matrix: skew}, nil},
		"negative":                {"doubly stochastic", streams{n: 2, claims: true, matrix: signed}, nil},
		"claimed of a free one":   {"doubly stochastic", streams{n: 3, claims: true, matrix: free}, nil},
		"a leak":                  {"mean of streams", streams{n: 2, claims: true, matrix: exchange, leak: 1e-3}, nil},
		"a leak is seen in mixes": {"mixing", streams{n: 2, claims: true, matrix: exchange, leak: 1e-9}, nil},
		"gain grows":              {"gain", streams{n: 2, claims: true, matrix: signed}, nil},
		"gain creeps":             {"gain", streams{n: 2, claims: true, matrix: skew}, nil},
	} {
		t.Run(name, func(t *testing.T) { found(t, c.rule, c.r, c.bend) })
	}
}

// found fails unless the suite finds a flaw of r by the named rule.
func found(t *testing.T, rule string, r framework.Residual, bend func(o *residualtest.Options)) {
	t.Helper()
	o := options(r)
	if bend != nil {
		bend(&o)
	}
	report := residualtest.Check(t.Context(), o)
	for _, c := range report.Failed() {
		if c.Name == rule {
			t.Logf("%.200s", c.Detail)
			return
		}
	}
	var table strings.Builder
	_ = report.Write(&table)
	t.Errorf("rule %q did not find the flaw\n%s", rule, table.String())
}

// A parameter that starts at infinity cannot be written down as an Init, but a
// listed one may overflow what trains.
func TestInfiniteInitIsRefused(t *testing.T) {
	r := residualtest.Check(context.Background(), options(gated{write: func(b *graph.Builder, _ int, s, y graph.Value) graph.Value {
		return b.Add(s, b.Mul(y, b.Param("gate", graph.ListInit(math.Inf(1)), 1)))
	}}))
	if r.OK() {
		t.Error("accepted")
	}
}

func TestFloat32BackendIsRefused(t *testing.T) {
	o := options(gated{})
	o.Backend64 = func() (framework.Backend, error) { return scalar.Open(framework.Options{}) }
	if r := residualtest.Check(context.Background(), o); r.OK() {
		t.Error("gradients are checked in float32")
	}
}
