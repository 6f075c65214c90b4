package graph_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func TestMisuseIsExplained(t *testing.T) {
	var report strings.Builder
	u1 := func(b *B, dims ...int) graph.Value { return b.Input("codes", tensor.U1, dims...) }
	for _, c := range []struct {
		name  string
		build func(b *B)
	}{
		{"shapes that do not broadcast", func(b *B) { b.Add(in(b, "x", 2, 3), in(b, "y", 2, 2)) }},
		{"ranks of where", func(b *B) { b.Apply(graph.Lookup("add"), nil, in(b, "x", 2, 3), in(b, "y", 3)) }},
		{"add of integers", func(b *B) { b.Add(ids(b, "x", 2), ids(b, "y", 2)) }},
		{"missing operand", func(b *B) { b.Add(in(b, "x", 2), graph.Value{}) }},
		{"missing operand of sum", func(b *B) { b.Sum(graph.Value{}, -1) }},
		{"missing operand of apply", func(b *B) { b.Apply(graph.Lookup("neg"), nil, graph.Value{}) }},
		{"attribute of another op", func(b *B) { b.Apply(graph.Lookup("neg"), graph.AxisAttr{}, in(b, "x", 2)) }},
		{"where without a condition", func(b *B) { b.Where(in(b, "c", 2), in(b, "x", 2), in(b, "y", 2)) }},
		{"cast to a code", func(b *B) { b.Cast(in(b, "x", 2), tensor.U2) }},
		{"sum of an axis that is not there", func(b *B) { b.Sum(in(b, "x", 2), 1) }},
		{"axis far below zero", func(b *B) { b.Sum(in(b, "x", 2), -2) }},
		{"dimension that is not there", func(b *B) { in(b, "x", 2).Dim(1) }},
		{"dimension of zero", func(b *B) { in(b, "x", 2, 0) }},
		{"nine dimensions", func(b *B) { in(b, "x", 1, 1, 1, 1, 1, 1, 1, 1, 1) }},
		{"reshape to another size", func(b *B) { b.Reshape(in(b, "x", 2, 3), 5) }},
		{"reshape of codes", func(b *B) { b.Reshape(codes(b, 4, 4), 16) }},
		{"transpose by no permutation", func(b *B) { b.Transpose(in(b, "x", 2, 3), 0, 0) }},
		{"transpose by too few axes", func(b *B) { b.Transpose(in(b, "x", 2, 3), 0) }},
		{"broadcast of a length", func(b *B) { b.Broadcast(in(b, "x", 2, 3), tensor.Shape{4, 3}) }},
		{"slice beyond the end", func(b *B) { b.Slice(in(b, "x", 2, 3), 1, 2, 4) }},
		{"empty slice", func(b *B) { b.Slice(in(b, "x", 2, 3), 1, 2, 2) }},
		{"negative padding", func(b *B) { b.Pad(in(b, "x", 2, 3), 1, -1, 0) }},
		{"concat of other rows", func(b *B) { b.Concat(1, in(b, "x", 2, 3), in(b, "y", 3, 3)) }},
		{"gather by floats", func(b *B) { b.Gather(in(b, "x", 2, 3), in(b, "i", 2)) }},
		{"scatteradd of other rows", func(b *B) { b.ScatterAdd(in(b, "x", 3, 4), ids(b, "i", 2), 9) }},
		{"updateat on the batch", func(b *B) { b.UpdateAt(in(b, "x", 2, 3), in(b, "y", 1, 3), ids(b, "p", 2), 0) }},
		{"updateat of more than there is", func(b *B) { b.UpdateAt(in(b, "x", 2, 3), in(b, "y", 2, 4), ids(b, "p", 2), 1) }},
		{"matmul of unlike lengths", func(b *B) { b.MatMul(in(b, "x", 2, 3), in(b, "y", 2, 3), false, false) }},
		{"matmul of unlike batches", func(b *B) { b.MatMul(in(b, "x", 4, 2, 3), in(b, "y", 5, 3, 2), false, false) }},
		{"matmul of vectors", func(b *B) { b.MatMul(in(b, "x", 3), in(b, "y", 3), false, false) }},
		{"matmul by integers", func(b *B) { b.MatMul(in(b, "x", 2, 3), ids(b, "y", 3, 2), false, false) }},
		{"encode to floats", func(b *B) { b.Encode(in(b, "x", 2), tensor.F32, []int8{0}) }},
		{"three levels in one bit", func(b *B) { b.Decode(u1(b, 8), []int8{-1, 0, 1}) }},
		{"no levels", func(b *B) { b.Decode(u1(b, 8), nil) }},
		{"rmsnorm by other weights", func(b *B) { b.RMSNorm(in(b, "x", 2, 3), in(b, "w", 2), 1e-5) }},
		{"rmsnorm with an epsilon of NaN", func(b *B) { b.RMSNorm(in(b, "x", 2, 3), in(b, "w", 3), math.NaN()) }},
		{"scale by infinity", func(b *B) { b.Scale(in(b, "x", 2), math.Inf(1)) }},
		{"rope of odd width", func(b *B) { b.RoPE(in(b, "x", 1, 2, 3, 5), ids(b, "p", 1), 10000) }},
		{"attention of heads that do not divide", func(b *B) {
			b.Attention(in(b, "q", 1, 2, 3, 4), in(b, "k", 1, 2, 2, 4), in(b, "v", 1, 2, 2, 4), ids(b, "p", 1))
		}},
		{"attention of fewer keys than queries", func(b *B) {
			b.Attention(in(b, "q", 1, 2, 1, 4), in(b, "k", 1, 1, 1, 4), in(b, "v", 1, 1, 1, 4), ids(b, "p", 1))
		}},
		{"targets of another number", func(b *B) { b.CrossEntropy(in(b, "x", 2, 3), ids(b, "y", 3)) }},
		{"a head and targets of another number", func(b *B) { b.LinearCrossEntropy(in(b, "x", 2, 8), in(b, "w", 9, 8), ids(b, "y", 3)) }},
		{"a head of another width", func(b *B) { b.LinearCrossEntropy(in(b, "x", 2, 8), in(b, "w", 9, 7), ids(b, "y", 2)) }},
		{"a head of integers", func(b *B) { b.LinearCrossEntropy(in(b, "x", 2, 8), ids(b, "w", 9, 8), ids(b, "y", 2)) }},
		{"a quantized head and targets of floats", func(b *B) {
			b.CodeBookCrossEntropy(in(b, "x", 2, 8), codes(b, 3, 8), in(b, "s", 3, 1), in(b, "y", 2), ternary)
		}},
		{"a quantized head with another latent weight", func(b *B) {
			b.BitLinearCrossEntropy(in(b, "x", 2, 8), in(b, "w", 2, 8), codes(b, 3, 8), in(b, "s", 3, 1), ids(b, "y", 2), ternary)
		}},
		{"seven activation bits", func(b *B) {
			b.CodeBookMatMul(in(b, "x", 2, 8), codes(b, 3, 8), in(b, "s", 3, 1), graph.LinearAttr{Levels: []int8{-1, 0, 1}, ActBits: 7})
		}},
		{"scales that do not divide the row", func(b *B) { b.CodeBookMatMul(in(b, "x", 2, 8), codes(b, 3, 8), in(b, "s", 3, 3), ternary) }},
		{"scales of other rows", func(b *B) { b.Dequantize(codes(b, 3, 8), in(b, "s", 2, 1), []int8{0}) }},
		{"a norm and a product of other widths", func(b *B) {
			b.NormLinear(in(b, "x", 2, 4), in(b, "gain", 4), in(b, "w", 4, 3), 1e-5)
		}},
		{"streams mixed by another matrix", func(b *B) {
			b.StreamWrite(in(b, "s", 2, 3, 4), in(b, "y", 2, 4), in(b, "h", 2, 2), in(b, "post", 3))
		}},
		{"streams mixed by matrices of other rows", func(b *B) {
			b.StreamWrite(in(b, "s", 2, 3, 4), in(b, "y", 2, 4), in(b, "h", 3, 3, 3), in(b, "post", 3))
		}},
		{"streams mixed by matrices of matrices", func(b *B) {
			b.StreamWrite(in(b, "s", 2, 3, 4), in(b, "y", 2, 4), in(b, "h", 2, 2, 3, 3), in(b, "post", 3))
		}},
		{"streams written by a vector as the matrix", func(b *B) {
			b.StreamWrite(in(b, "s", 2, 3, 4), in(b, "y", 2, 4), in(b, "h", 3), in(b, "post", 3))
		}},
		{"a branch weighted by other rows", func(b *B) {
			b.StreamWrite(in(b, "s", 2, 3, 4), in(b, "y", 2, 4), in(b, "h", 3, 3), in(b, "post", 3, 3))
		}},
		{"streams read by one number", func(b *B) { b.StreamRead(in(b, "s", 2, 3, 4), in(b, "pre")) }},
		{"streams read by as many numbers as rows", func(b *B) { b.StreamRead(in(b, "s", 2, 3, 4), in(b, "pre", 2)) }},
		{"streams read by a transposed matrix", func(b *B) { b.StreamRead(in(b, "s", 2, 3, 4), in(b, "pre", 3, 2)) }},
		{"streams read by integers", func(b *B) { b.StreamRead(in(b, "s", 2, 3, 4), ids(b, "pre", 2, 3)) }},
		{"moments of another shape", func(b *B) {
			one := in(b, "lr")
			b.AdamW(in(b, "p", 2), in(b, "g", 2), in(b, "m", 3), in(b, "v", 2), one, one, one, graph.AdamAttr{})
		}},
		{"const of halves", func(b *B) { b.Const(1, tensor.T(tensor.F16, 2)) }},
		{"gradient of a vector", func(b *B) {
			x := in(b, "x", 2)
			b.Gradients(x, []graph.Value{x})
		}},
		{"gradient of an optimizer", func(b *B) {
			p, x := in(b, "p"), in(b, "x")
			q, _, _ := b.AdamW(p, x, x, x, x, x, x, graph.AdamAttr{})
			b.Gradients(q, []graph.Value{p})
		}},
		{"update of an input", func(b *B) { b.Update(in(b, "x", 2), in(b, "y", 2)) }},
		{"parameter declared in two shapes", func(b *B) {
			b.Param("w", graph.Init{}, 2)
			b.Param("w", graph.Init{}, 3)
		}},
		{"buffer with the name of a parameter", func(b *B) {
			b.Param("w", graph.Init{}, 2)
			b.Buffer("w", f32(2))
		}},
		{"name with a line break", func(b *B) { in(b, "x\ny", 2) }},
		{"name that is no text", func(b *B) { in(b, "x\xff", 2) }},
		{"within scopes", func(b *B) { b.In("block", func() { b.In("mlp", func() { b.Sum(in(b, "x", 2), 7) }) }) }},
		{"reported by a plugin", func(*B) { graph.Fail("%d columns are not a multiple of %d", 5, 2) }},
	} {
		g, err := graph.Trace(c.build)
		var e *graph.Error
		if err == nil || g != nil || !errors.As(err, &e) {
			t.Errorf("%s: got graph %v and error %v, wants a *graph.Error alone", c.name, g, err)
			continue
		}
		report.WriteString(c.name + "\n\t" + err.Error() + "\n")
	}
	golden(t, "misuse.txt", report.String())
}

func TestTraceRecoversNothingButMisuse(t *testing.T) {
	bug := errors.New("a bug of the caller")
	defer func() {
		if e := recover(); e != any(bug) {
			t.Errorf("recovered %v, want the caller's own panic", e)
		}
	}()
	g, err := graph.Trace(func(*B) { panic(bug) })
	t.Errorf("got %v and %v, wants a panic", g, err)
}

func TestScopesNameStatesAndEndWithTheirFunction(t *testing.T) {
	g, err := graph.Trace(func(b *B) {
		b.In("a", func() {
			b.In("b", func() { b.Param("w", graph.Init{}, 1) })
			b.Param("w", graph.Init{}, 1)
			b.GlobalParam("w", graph.Init{}, 1)
			b.GlobalBuffer("n", f32())
		})
		b.Buffer("m", f32())
		if b.Scope() != "" {
			t.Errorf("scope %q after all functions", b.Scope())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range g.States {
		names = append(names, n.Name()+"@"+n.Scope)
	}
	if want := []string{"a.b.w@a.b", "a.w@a", "w@a", "n@a", "m@"}; !slices.Equal(names, want) {
		t.Errorf("states %v, want %v", names, want)
	}
}

func TestAStateIsDeclaredOnce(t *testing.T) {
	g, err := graph.Trace(func(b *B) {
		first := b.Param("w", graph.ConstInit(1), 2)
		if again := b.Param("w", graph.ConstInit(1), 2); again != first {
			t.Errorf("the second declaration is %v, the first %v", again, first)
		}
	})
	if err != nil || len(g.States) != 1 || len(g.Nodes) != 1 {
		t.Errorf("got %v, %v", g, err)
	}
}

func TestInlineBindsInputsAndScopesStates(t *testing.T) {
	f, err := graph.Trace(func(b *B) {
		x, y := in(b, "x", 2), in(b, "y", 2)
		b.Output("z", b.Sub(b.Mul(x, b.Param("w", graph.ConstInit(1), 2)), y))
		b.Output("x", x)
	})
	if err != nil {
		t.Fatal(err)
	}
	g, err := graph.Trace(func(b *B) {
		p, q := in(b, "p", 2), in(b, "q", 2)
		b.In("layer", func() {
			out := b.Inline(f, q, p)
			b.Output("z", out[0])
			if out[1] != q {
				t.Errorf("an output that is an input became %v, want %v", out[1], q)
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `%0 = input() {"Name":"p","Type":"f32[2]"} : f32[2]
%1 = input() {"Name":"q","Type":"f32[2]"} : f32[2]
%2 = param() {"Name":"layer.w","Type":"f32[2]","Init":{"Mean":1}} : f32[2] @layer
%3 = mul(%1 %2) : f32[2] @layer
%4 = sub(%3 %0) : f32[2] @layer
output z %4
`
	if g.String() != want {
		t.Errorf("got\n%swant\n%s", g, want)
	}
	for name, build := range map[string]func(b *B){
		"too few arguments":    func(b *B) { b.Inline(f, in(b, "p", 2)) },
		"argument of a length": func(b *B) { b.Inline(f, in(b, "p", 2), in(b, "q", 3)) },
	} {
		if _, err := graph.Trace(build); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The results of a straight-through quantizer do not depend on its latent
// weight, nor those of a rotation's pullback on what was rotated.
func TestIdleOperandsAreThoseThatNoResultReads(t *testing.T) {
	for op, want := range map[string][]bool{
		"bitlinear":     {false, true, false, false},
		"bitlinear.vjp": {false, true, false, false, false},
		"rope.vjp":      {true, false, false},

		"linearcrossentropy.vjp":    {false, false, false, false},
		"bitlinearcrossentropy":     {false, true, false, false, false},
		"bitlinearcrossentropy.vjp": {false, true, false, false, false, false},
		"int8.vjp":                  {true, false},
		"rmsnorm":                   {false, false},
		"swiglu.vjp":                {false, false, false},
		"crossentropy.vjp":          {false, false, false},
		"streamread.vjp":            {false, false, false},
		"matmul":                    {false, false},
	} {
		g := sample(t, graph.Lookup(op))
		for _, n := range g.Nodes {
			if n.Op.Name == op {
				if got := n.Idle(); !slices.Equal(got, want) {
					t.Errorf("%s: idle %v, want %v", op, got, want)
				}
			}
		}
	}
}

// A kernel of attention keeps no scores, so there may be more of them than a
// tensor holds.
func TestIdleOperandsOfAnExpansionThatNoTensorHolds(t *testing.T) {
	g, err := graph.Trace(func(b *B) {
		q := b.Input("q", tensor.F32, 1<<16, 1<<14, 1, 2)
		b.Output("o", b.Attention(q, q, q, b.Input("pos", tensor.I32, 1<<16)))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Outputs[0].Value.N.Idle(); !slices.Equal(got, make([]bool, 4)) {
		t.Errorf("idle %v, want none", got)
	}
}

func TestGradientsFollowTheDefinitions(t *testing.T) {
	for _, c := range []struct {
		name string
		want float64
		loss func(b *B, x, y graph.Value) graph.Value
	}{
		{"straight through", 1, func(b *B, x, y graph.Value) graph.Value { return b.Through(b.Mul(x, x), y) }},
		{"stopped", 0, func(b *B, x, y graph.Value) graph.Value { return b.Add(b.StopGrad(y), x) }},
		{"unused", 0, func(b *B, x, _ graph.Value) graph.Value { return b.Exp(x) }},
	} {
		_, err := graph.Trace(func(b *B) {
			x, y := in(b, "x"), in(b, "y")
			g := b.Gradients(c.loss(b, x, y), []graph.Value{y})[0]
			if op := g.N.Op.Name; op != "const" {
				t.Errorf("%s: gradient is %s, want a constant", c.name, op)
			}
			if got := g.N.Attr.(graph.ConstAttr).Value; got != c.want {
				t.Errorf("%s: gradient %v, want %v", c.name, got, c.want)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestDefineRefusesATakenName(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("neg was defined twice")
		}
	}()
	graph.Define(graph.Op{Name: "neg"})
}
