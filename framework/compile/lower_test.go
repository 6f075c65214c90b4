package compile_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

type B = graph.Builder

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

func f32(dims ...int) tensor.Type { return tensor.T(tensor.F32, dims...) }

func in(b *B, name string, dims ...int) graph.Value { return b.Input(name, tensor.F32, dims...) }

func everything(*graph.Node) bool { return true }

func primitives(n *graph.Node) bool { return !n.Op.Composite() }

func trace(t testing.TB, fn func(b *B)) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(fn)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func lower(t testing.TB, native func(*graph.Node) bool, fn func(b *B)) *graph.Graph {
	t.Helper()
	g, err := compile.Lower(trace(t, fn), native)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// names lists the ops of g in order.
func names(g *graph.Graph) []string {
	var s []string
	for _, n := range g.Nodes {
		s = append(s, n.Op.Name)
	}
	return s
}

func count(g *graph.Graph, op string) int {
	k := 0
	for _, n := range g.Nodes {
		if n.Op.Name == op {
			k++
		}
	}
	return k
}

// step is one training step of a tiny model.
func step(b *B) {
	adam := graph.AdamAttr{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1}
	x := in(b, "x", 2, 4)
	var h graph.Value
	b.In("norm", func() { h = b.RMSNorm(x, b.Param("w", graph.ConstInit(1), 4), 1e-5) })
	b.In("out", func() { h = b.MatMul(h, b.Param("w", graph.NormalInit(0.02), 3, 4), false, true) })
	loss := b.Scale(b.SumAll(b.CrossEntropy(h, b.Input("y", tensor.I32, 2))), 0.5)
	b.Output("loss", loss)
	lr, c1, c2 := in(b, "lr"), in(b, "c1"), in(b, "c2")
	grads := b.Gradients(loss, b.Params())
	for i, p := range b.Params() {
		m, v := b.Buffer(p.N.Name()+".m", p.Type()), b.Buffer(p.N.Name()+".v", p.Type())
		p2, m2, v2 := b.AdamW(p, grads[i], m, v, lr, c1, c2, adam)
		b.Update(p, p2)
		b.Update(m, m2)
		b.Update(v, v2)
	}
}

func TestAStepLowersToItsGoldenText(t *testing.T) {
	golden(t, "step_native.txt", lower(t, everything, step).String())
	golden(t, "step_primitives.txt", lower(t, primitives, step).String())
}

func TestLoweringIsDeterministicAndIdempotent(t *testing.T) {
	for _, native := range []func(*graph.Node) bool{everything, primitives} {
		first := lower(t, native, step)
		for range 5 {
			if again := lower(t, native, step); again.String() != first.String() {
				t.Fatalf("another text the next time:\n%s\n%s", first, again)
			}
		}
		again, err := compile.Lower(first, native)
		if err != nil {
			t.Fatal(err)
		}
		if again.Hash() != first.Hash() {
			t.Errorf("lowering twice differs:\n%s\n%s", first, again)
		}
	}
}

func TestLoweringKeepsInputsAndResults(t *testing.T) {
	g := trace(t, func(b *B) {
		in(b, "unused", 3)
		x := in(b, "x", 3)
		b.Output("twice", b.Add(x, x))
		b.Output("x", x)
		b.Output("again", b.Add(x, x))
	})
	low, err := compile.Lower(g, everything)
	if err != nil {
		t.Fatal(err)
	}
	if len(low.Inputs) != 2 || low.Inputs[0].Name() != "unused" || low.Inputs[1].Name() != "x" {
		t.Errorf("inputs became %v", low.Inputs)
	}
	var outs []string
	for _, o := range low.Outputs {
		outs = append(outs, o.Name+" "+o.Value.String())
	}
	if want := []string{"twice %2", "x %1", "again %2"}; !slices.Equal(outs, want) {
		t.Errorf("outputs %v, want %v", outs, want)
	}
}

func TestEqualNodesAreMerged(t *testing.T) {
	g := lower(t, everything, func(b *B) {
		x, y := in(b, "x", 3), in(b, "y", 3)
		b.Output("a", b.Mul(b.Add(x, y), b.Add(x, y)))
		b.Output("b", b.Add(b.Scale(x, 2), b.Scale(x, 3)))
		b.Output("c", b.Sub(x, y))
		b.Output("d", b.Sub(y, x))
		b.Output("e", b.Add(b.Sum(x, 0), b.Sum(x, 0)))
	})
	for op, want := range map[string]int{"add": 3, "scale": 2, "sub": 2, "sum": 1} {
		if got := count(g, op); got != want {
			t.Errorf("%d of %s, want %d in\n%s", got, op, want, g)
		}
	}
}

func TestExpansionsAreMergedToo(t *testing.T) {
	g := lower(t, primitives, func(b *B) {
		x := in(b, "x", 2, 3)
		b.Output("a", b.Softmax(x))
		b.Output("b", b.Neg(b.Softmax(x)))
	})
	if got := count(g, "exp"); got != 1 {
		t.Errorf("%d of exp, want 1 in\n%s", got, g)
	}
}

func TestDeadNodesAreDropped(t *testing.T) {
	g := lower(t, everything, func(b *B) {
		x := in(b, "x", 3)
		b.Exp(b.Neg(x))
		b.Param("unused", graph.Init{}, 3)
		b.Output("y", b.Through(b.Abs(x), b.Log(x))) // only the value counts
	})
	if got, want := names(g), []string{"input", "abs"}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
}

func TestNoCompositeNorMarkerIsLeftWithoutAKernel(t *testing.T) {
	g := lower(t, primitives, step)
	for _, n := range g.Nodes {
		if n.Op.Composite() || n.Op.Name == "through" || n.Op.Name == "cut" {
			t.Errorf("%s is left", n.Op.Name)
		}
	}
}

func TestAMissingPrimitiveIsNamed(t *testing.T) {
	g := trace(t, func(b *B) { b.Output("y", b.Softmax(in(b, "x", 2))) })
	_, err := compile.Lower(g, func(n *graph.Node) bool { return primitives(n) && n.Op.Name != "amax" })
	if err == nil || !strings.Contains(err.Error(), "amax") || !strings.Contains(err.Error(), "no kernel") {
		t.Errorf("error %v, wants one that names amax", err)
	}
}

// A backend may take some nodes of an op and decline others.
func TestNativeIsAskedByNode(t *testing.T) {
	g := lower(t, func(n *graph.Node) bool { return n.Op.Name != "softmax" || n.In[0].Dim(-1) == 4 }, func(b *B) {
		b.Output("a", b.Softmax(in(b, "x", 2, 4)))
		b.Output("b", b.Softmax(in(b, "y", 2, 3)))
	})
	if count(g, "softmax") != 1 || count(g, "exp") != 1 {
		t.Errorf("want one softmax and one expansion in\n%s", g)
	}
}

func TestAnUpdateFollowsItsLastOperand(t *testing.T) {
	g := lower(t, everything, func(b *B) {
		w, x := b.Param("w", graph.Init{}, 4), in(b, "x", 4)
		grad := b.Mul(b.Exp(x), w)
		y := b.Sqrt(b.Neg(b.Abs(x)))
		b.Output("y", y)
		b.Update(w, b.Sub(w, grad))
	})
	got := names(g)
	if i := slices.Index(got, "sub"); i < 1 || got[i-1] != "mul" {
		t.Errorf("the update is not next to its gradient: %v", got)
	}
}

func TestAnUpdateThatIsReadElsewhereStays(t *testing.T) {
	g := lower(t, everything, func(b *B) {
		w, x := b.Param("w", graph.Init{}, 4), in(b, "x", 4)
		next := b.Add(w, x)
		b.Update(w, next)
		b.Output("y", b.Neg(next))
	})
	if got, want := names(g), []string{"param", "input", "add", "neg"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// head is a loss whose mean is differentiated.
func head(b *B) {
	x, w, y := in(b, "x", 6, 4), b.Param("w", graph.NormalInit(1), 5, 4), b.Input("y", tensor.I32, 6)
	nll := b.LinearCrossEntropy(x, w, y)
	loss := b.Scale(b.SumAll(nll), 1.0/6)
	b.Output("loss", loss)
	b.Output("dw", b.Gradients(loss, []graph.Value{w})[0])
}

func TestALossIsJoinedWithItsGradient(t *testing.T) {
	g := lower(t, everything, head)
	if count(g, "linearcrossentropy.joint") != 1 || count(g, "linearcrossentropy") != 0 || count(g, "linearcrossentropy.vjp") != 0 {
		t.Errorf("ops %v", names(g))
	}
	// A backend that has no kernel for both.
	apart := lower(t, func(n *graph.Node) bool { return !strings.HasSuffix(n.Op.Name, ".joint") }, head)
	if count(apart, "linearcrossentropy.vjp") != 1 || count(apart, "linearcrossentropy") != 1 {
		t.Errorf("ops %v", names(apart))
	}
	want, got := results(t, apart), results(t, g)
	for i := range want {
		if !slices.Equal(want[i].Data, got[i].Data) {
			t.Errorf("output %s differs", g.Outputs[i].Name)
		}
	}
}

func TestAGradientThatNeedsTheLossIsNotJoinedWithIt(t *testing.T) {
	g := lower(t, everything, func(b *B) {
		x, w, y := in(b, "x", 6, 4), b.Param("w", graph.NormalInit(1), 5, 4), b.Input("y", tensor.I32, 6)
		nll := b.LinearCrossEntropy(x, w, y)
		loss := b.SumAll(b.Mul(nll, nll)) // its slope is twice the loss
		b.Output("dw", b.Gradients(loss, []graph.Value{w})[0])
	})
	if count(g, "linearcrossentropy.joint") != 0 || count(g, "linearcrossentropy.vjp") != 1 {
		t.Errorf("ops %v", names(g))
	}
}

func TestJoiningKeepsTheOrderOfInputs(t *testing.T) {
	g := lower(t, everything, func(b *B) {
		x, w, y := in(b, "x", 6, 4), b.Param("w", graph.NormalInit(1), 5, 4), b.Input("y", tensor.I32, 6)
		nll := b.LinearCrossEntropy(x, w, y)
		loss := b.SumAll(b.Add(b.Mul(nll, in(b, "after", 6)), in(b, "last", 6))) // the cotangent is an input
		b.Output("loss", loss)
		b.Output("dw", b.Gradients(loss, []graph.Value{w})[0])
	})
	var inputs []string
	for _, n := range g.Inputs {
		inputs = append(inputs, n.Name())
	}
	if got := strings.Join(inputs, " "); got != "x y after last" {
		t.Errorf("inputs %s", got)
	}
	if count(g, "linearcrossentropy.joint") != 1 {
		t.Errorf("ops %v", names(g))
	}
}

func TestLossesThatNeedEachOtherAreNotBothJoined(t *testing.T) {
	fn := func(b *B) {
		w, y := b.Param("w", graph.NormalInit(1), 5, 4), b.Input("y", tensor.I32, 6)
		p := b.LinearCrossEntropy(in(b, "p", 6, 4), w, y)
		q := b.LinearCrossEntropy(in(b, "q", 6, 4), w, y)
		loss := b.SumAll(b.Mul(p, q)) // each is the other's cotangent
		b.Output("loss", loss)
		b.Output("dw", b.Gradients(loss, []graph.Value{w})[0])
	}
	g := lower(t, everything, fn)
	if n := count(g, "linearcrossentropy.joint"); n > 1 {
		t.Errorf("%d joined", n)
	}
	apart := lower(t, func(n *graph.Node) bool { return !strings.HasSuffix(n.Op.Name, ".joint") }, fn)
	want, got := results(t, apart), results(t, g)
	for i := range want {
		if !slices.Equal(want[i].Data, got[i].Data) {
			t.Errorf("output %s differs", g.Outputs[i].Name)
		}
	}
}
