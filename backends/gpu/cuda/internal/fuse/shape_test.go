package fuse

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// shapeOf lists a graph's nodes but for leaves and views: a chain as its ops.
func shapeOf(g *graph.Graph) (all []string) {
	for _, n := range g.Nodes {
		switch {
		case ChainOf(n) != nil:
			all = append(all, strings.Join(ChainOf(n).names, " "))
		case !n.IsInput() && !n.IsState() && !views[n.Op.Name]:
			all = append(all, "("+n.Op.Name+")")
		}
	}
	return all
}

func TestWhatBecomesAChain(t *testing.T) {
	mat := func(b *graph.Builder, name string) graph.Value { return b.Input(name, tensor.F32, 1024, 768) }
	for _, c := range []struct {
		name  string
		build func(b *graph.Builder) []graph.Value
		want  []string
	}{
		{"neighbors", func(b *graph.Builder) []graph.Value {
			return []graph.Value{b.Exp(b.Neg(b.Abs(mat(b, "x"))))}
		}, []string{"abs neg exp"}},
		{"what a chain waits for through another node stays outside", func(b *graph.Builder) []graph.Value {
			p := b.Exp(mat(b, "x"))
			return []graph.Value{b.Add(p, b.Softmax(p))}
		}, []string{"exp", "(softmax)", "add"}},
		{"a diamond is one", func(b *graph.Builder) []graph.Value {
			p := b.Exp(mat(b, "x"))
			return []graph.Value{b.Add(b.Add(p, b.Neg(p)), b.Sqrt(p))}
		}, []string{"exp neg add sqrt add"}},
		{"a result that others read is stored too", func(b *graph.Builder) []graph.Value {
			p := b.Exp(mat(b, "x"))
			q := b.Neg(p)
			return []graph.Value{q, b.Softmax(p)}
		}, []string{"exp neg", "(softmax)"}},
		{"rows stay in one kernel", func(b *graph.Builder) []graph.Value {
			x := mat(b, "x")
			return []graph.Value{b.Div(x, b.Sqrt(b.Sum(b.Mul(x, x), 1)))}
		}, []string{"mul sum sqrt div"}},
		{"a single row does not: it needs the whole device", func(b *graph.Builder) []graph.Value {
			x := b.Input("x", tensor.F32, 1, 10_000_000)
			return []graph.Value{b.Div(x, b.Sqrt(b.Sum(b.Mul(x, x), 1)))}
		}, []string{"mul sum sqrt", "div"}},
		{"few rows do not", func(b *graph.Builder) []graph.Value {
			x := b.Input("x", tensor.F32, 4, 16384)
			return []graph.Value{b.Div(x, b.Sqrt(b.Sum(b.Mul(x, x), 1)))}
		}, []string{"mul sum sqrt", "div"}},
		{"a mean that is wanted later is not computed later", func(b *graph.Builder) []graph.Value {
			big := b.Softmax(mat(b, "x"))
			m := b.Exp(b.Sum(big, 1))
			y := b.Softmax(b.Softmax(mat(b, "y")))
			return []graph.Value{b.Add(y, m)}
		}, []string{"(softmax)", "sum exp", "(softmax)", "(softmax)", "add"}},
		{"constants are computed where they are read", func(b *graph.Builder) []graph.Value {
			x := mat(b, "x")
			c := b.Broadcast(b.Const(2, tensor.T(tensor.F32, 1, 1)), x.Shape())
			return []graph.Value{b.Mul(x, c), b.Softmax(c)}
		}, []string{"broadcast", "mul", "(softmax)"}},
		{"expensive parts are not computed for each element of what they are joined to", func(b *graph.Builder) []graph.Value {
			var parts []graph.Value
			for i := range 8 {
				x := b.Input(fmt.Sprint("x", i), tensor.F32, 16384, 1, 768)
				for range 4 {
					x = b.Sin(b.Cos(x))
				}
				parts = append(parts, x)
			}
			return []graph.Value{b.Concat(1, parts...)}
		}, append(slices.Repeat([]string{"cos sin cos sin cos sin cos sin"}, 8), "concat")},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := trace(t, func(b *graph.Builder) {
				for i, v := range c.build(b) {
					b.Output(fmt.Sprint("y", i), v)
				}
			})
			if got := shapeOf(fused(t, g)); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// Every primitive is in a chain; all else, and what the graph gives and takes, is
// as it was, in its order; and a chain comes behind what it reads.
func TestTheRestOfAGraphStaysAsItIs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := trace(rt, func(b *graph.Builder) {
			random(b, func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") })
		})
		h := fused(rt, g)
		leaves := func(g *graph.Graph) (all []string) {
			for _, n := range slices.Concat(g.Inputs, g.States) {
				all = append(all, n.Name()+n.Out[0].String())
			}
			for _, o := range g.Outputs {
				all = append(all, o.Name+o.Value.Type().String())
			}
			for _, u := range g.Updates {
				all = append(all, u.State.Name())
			}
			return all
		}
		rest := func(g *graph.Graph) (all []string) {
			for _, n := range g.Nodes {
				if !Takes(n) && ChainOf(n) == nil {
					all = append(all, n.Op.Name+n.Out[0].String()+n.Scope)
				}
			}
			return all
		}
		if a, b := leaves(g), leaves(h); !slices.Equal(a, b) {
			rt.Fatalf("%v became %v", a, b)
		}
		for _, n := range h.Nodes {
			if Takes(n) && !views[n.Op.Name] {
				rt.Fatalf("%s is in no chain", n.Op.Name)
			}
			for _, v := range n.In {
				if v.N.ID >= n.ID {
					rt.Fatalf("%v reads %v", n, v)
				}
			}
		}
		// States may be declared between other nodes: compare without them.
		opaque := func(all []string) (out []string) {
			for _, s := range all {
				if strings.HasPrefix(s, "softmax") {
					out = append(out, s)
				}
			}
			return out
		}
		if a, b := opaque(rest(g)), opaque(rest(h)); !slices.Equal(a, b) {
			rt.Fatalf("%v became %v", a, b)
		}
	})
}

// The sum of a row that is cut into parts is known behind the kernel's end.
func TestARowThatIsCutHasOneLoop(t *testing.T) {
	g := trace(t, func(b *graph.Builder) {
		x := b.Input("x", tensor.F32, 1, 40000)
		b.Output("y", b.Div(x, b.Sum(x, 1)))
	})
	members := []*graph.Node{g.Nodes[1], g.Nodes[2]}
	if _, _, err := lower(members, []graph.Value{{N: members[1]}}, maxSize); !errors.Is(err, errRefused) {
		t.Errorf("got %v", err)
	}
}

// New states are written over the old ones, also where a chain reduces rows of
// what it has updated.
func TestUpdatesStayInPlace(t *testing.T) {
	for name, build := range map[string]func(b *graph.Builder, s, x graph.Value) graph.Value{
		"step": func(b *graph.Builder, s, x graph.Value) graph.Value { return b.Sub(s, b.Scale(x, 0.1)) },
		"step and quantize": func(b *graph.Builder, s, x graph.Value) graph.Value {
			s = b.Sub(s, b.Scale(x, 0.1))
			b.Output("codes", b.Round(b.Div(s, b.Sum(b.Abs(s), 1))))
			return s
		},
		"step, whose rows scale something else": func(b *graph.Builder, s, x graph.Value) graph.Value {
			s = b.Sub(s, b.Scale(x, 0.1))
			b.Output("scaled", b.Mul(b.Input("y", tensor.F32, 768, 768), b.Sum(b.Abs(s), 1)))
			return s
		},
		"step, then read": func(b *graph.Builder, s, x graph.Value) graph.Value {
			next := b.Sub(s, b.Scale(x, 0.1))
			b.Output("norm", b.SumAll(b.Mul(next, next)))
			return next
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := trace(t, func(b *graph.Builder) {
				s := b.Param("s", graph.ConstInit(0), 768, 768)
				b.Update(s, build(b, s, b.Softmax(b.Input("x", tensor.F32, 768, 768))))
			})
			h := fused(t, g)
			u := h.Updates[0]
			if slot := compile.Place(h, 256, nil).Slots[u.Value]; slot.State != u.State {
				t.Errorf("the new state has memory of its own\n%v", h)
			}
		})
	}
}
