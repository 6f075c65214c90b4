package avx2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/avx2"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/backendtest"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

var ternary = graph.LinearAttr{Levels: []int8{-1, 0, 1}, ActBits: 8}

// headCase is a head [v,k] on n rows.
type headCase struct {
	op      string // of the head with its loss
	n, k, v int
	half    bool // the weight is f16
	scales  [2]int
}

func (c headCase) String() string {
	return fmt.Sprintf("%s %dx%dx%d f16 %v scales %v", c.op, c.n, c.k, c.v, c.half, c.scales)
}

// gradient reports whether the case has a kernel for its gradient.
func (c headCase) gradient() bool { return c.op != "codebookcrossentropy" && !c.half }

// operands declares x, an input, and the weight, which is states.
func (c headCase) operands(b *graph.Builder) (x graph.Value, w []graph.Value) {
	x = b.Input("x", tensor.F32, c.n, c.k)
	if c.op == "linearcrossentropy" {
		if c.half {
			return x, []graph.Value{b.Buffer("w", tensor.T(tensor.F16, c.v, c.k))}
		}
		return x, []graph.Value{b.Param("w", graph.Init{}, c.v, c.k)}
	}
	if c.op == "bitlinearcrossentropy" {
		w = append(w, b.Param("w", graph.Init{}, c.v, c.k))
	}
	return x, append(w, b.Buffer("codes", tensor.T(tensor.U2, c.v, c.k)), b.Buffer("scales", tensor.T(tensor.F32, c.scales[0], c.scales[1])))
}

// loss is the op, or, apart, the product followed by crossentropy.
func (c headCase) loss(b *graph.Builder, x graph.Value, w []graph.Value, targets graph.Value, apart bool) graph.Value {
	var logits graph.Value
	switch c.op {
	case "linearcrossentropy":
		if !apart {
			return b.LinearCrossEntropy(x, w[0], targets)
		}
		logits = b.MatMul(x, w[0], false, true)
	case "bitlinearcrossentropy":
		if !apart {
			return b.BitLinearCrossEntropy(x, w[0], w[1], w[2], targets, ternary)
		}
		logits = b.BitLinear(x, w[0], w[1], w[2], ternary)
	default:
		if !apart {
			return b.CodeBookCrossEntropy(x, w[0], w[1], targets, ternary)
		}
		logits = b.CodeBookMatMul(x, w[0], w[1], ternary)
	}
	return b.CrossEntropy(logits, targets)
}

// graph outputs the loss of each row and the gradients for a cotangent.
func (c headCase) graph(t testing.TB, apart bool) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(func(b *graph.Builder) {
		x, w := c.operands(b)
		nll := c.loss(b, x, w, b.Input("targets", tensor.I32, c.n), apart)
		ct := b.Input("ct", tensor.F32, c.n)
		b.Output("nll", nll)
		if !c.gradient() {
			return
		}
		wrt := []graph.Value{x}
		for _, v := range w {
			if v.Type().DType == tensor.F32 {
				wrt = append(wrt, v)
			}
		}
		for i, d := range b.Pullback([]graph.Value{nll}, []graph.Value{ct}, wrt) {
			b.Output(fmt.Sprintf("d%d", i), d)
		}
	})
	if err != nil {
		t.Fatalf("%v: %v", c, err)
	}
	return g
}

func random(typ tensor.Type, scale float64, key rng.Key) *tensor.Tensor {
	x := tensor.New(typ)
	for i := range typ.Shape.Numel() {
		v := float32(scale * key.Normal(uint64(i)))
		if typ.DType == tensor.F16 {
			x.U16()[i] = tensor.F32ToF16(v)
		} else {
			x.F32()[i] = v
		}
	}
	return x
}

// states are the weights; each has two-bit codes 0 to 2 in rows of whole bytes.
func (c headCase) states(g *graph.Graph) map[string]*tensor.Tensor {
	all := map[string]*tensor.Tensor{}
	for _, n := range g.States {
		key := rng.NewKey(7, n.Name())
		if n.Out[0].DType != tensor.U2 {
			all[n.Name()] = random(n.Out[0], 0.3, key)
			continue
		}
		codes := tensor.New(n.Out[0])
		for i := range 4 * len(codes.Data) {
			codes.Data[i/4] |= byte(3*key.Float64(uint64(i))) << (i % 4 * 2)
		}
		all[n.Name()] = codes
	}
	return all
}

// inputs are x, the targets, some of which are ignored, and the cotangent.
func (c headCase) inputs(seed uint64) []*tensor.Tensor {
	targets := tensor.New(tensor.T(tensor.I32, c.n))
	key := rng.NewKey(seed, "targets")
	for i := range c.n {
		targets.I32()[i] = int32(float64(c.v)*key.Float64(uint64(i))) - int32(i%5/4*c.v)
	}
	return []*tensor.Tensor{
		random(tensor.T(tensor.F32, c.n, c.k), 1, rng.NewKey(seed, "x")), targets,
		random(tensor.T(tensor.F32, c.n), 1, rng.NewKey(seed, "ct")),
	}
}

// session runs one graph on one store.
type session struct {
	exec  framework.Executable
	store framework.Store
	out   []*tensor.Tensor
}

func (c headCase) open(t testing.TB, be *host.Backend, g *graph.Graph) session {
	t.Helper()
	exec, err := be.Compile(context.Background(), g)
	if err != nil {
		t.Fatal(err)
	}
	store, err := be.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range c.states(g) {
		if err := store.Put(context.Background(), name, x); err != nil {
			t.Fatal(err)
		}
	}
	s := session{exec: exec, store: store}
	for _, o := range g.Outputs {
		s.out = append(s.out, tensor.New(o.Value.Type()))
	}
	return s
}

// uses reports whether be runs op by a kernel in g.
func uses(t testing.TB, be *host.Backend, g *graph.Graph, op string) bool {
	t.Helper()
	plan, err := be.Plan(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range plan.Graph.Nodes {
		if n.Op.Name == op {
			return true
		}
	}
	return false
}

func headCases() []headCase {
	var all []headCase
	for _, s := range [][3]int{{33, 32, 40}, {64, 96, 57}, {100, 128, 131}, {97, 64, 300}, {257, 32, 9}} {
		all = append(all,
			headCase{op: "linearcrossentropy", n: s[0], k: s[1] - 3, v: s[2]},
			headCase{op: "linearcrossentropy", n: s[0], k: s[1], v: s[2]},
			headCase{op: "linearcrossentropy", n: s[0], k: s[1], v: s[2], half: true},
			headCase{op: "bitlinearcrossentropy", n: s[0], k: s[1], v: s[2], scales: [2]int{s[2], s[1] / 32}},
			headCase{op: "bitlinearcrossentropy", n: s[0], k: s[1], v: s[2], scales: [2]int{1, 1}},
			headCase{op: "codebookcrossentropy", n: s[0], k: s[1], v: s[2], scales: [2]int{s[2], 1}},
		)
	}
	return all
}

// block is so small that a block of the cases has 32 rows.
const block = 250

func needsAVX2(t testing.TB) {
	if !avx2.Supported() {
		t.Skip("the processor or the build has no AVX2")
	}
}

func TestLossInBlocksHasTheBitsOfTheLogitsWhole(t *testing.T) {
	needsAVX2(t)
	ctx := context.Background()
	for _, threads := range []int{1, 3} {
		be := avx2.OpenBlock(threads, block)
		defer func() { _ = be.Close() }()
		for _, c := range headCases() {
			whole, blocks := c.graph(t, true), c.graph(t, false)
			op := c.op
			if c.gradient() { // the cotangents are inputs
				op += ".joint"
			}
			if !uses(t, be, blocks, op) {
				t.Fatalf("%v: no kernel", c)
			}
			want, got := c.open(t, be, whole), c.open(t, be, blocks)
			for run := range 2 { // the second on working memory that the first has used
				in := c.inputs(uint64(run))
				if err := want.exec.Run(ctx, want.store, in, want.out); err != nil {
					t.Fatal(err)
				}
				if err := got.exec.Run(ctx, got.store, in, got.out); err != nil {
					t.Fatal(err)
				}
				for i := range want.out {
					if !bytes.Equal(got.out[i].Data, want.out[i].Data) {
						t.Errorf("%v, %d threads, run %d: %s differs", c, threads, run, blocks.Outputs[i].Name)
					}
				}
			}
		}
	}
}

func TestLossInBlocksRefusesTargets(t *testing.T) {
	needsAVX2(t)
	be := avx2.OpenBlock(2, block)
	defer func() { _ = be.Close() }()
	for _, c := range headCases()[:6] {
		s := c.open(t, be, c.graph(t, false))
		for _, bad := range []int{c.v, 1<<31 - 1} {
			in := c.inputs(1)
			in[1].I32()[c.n-1] = int32(bad)
			if err := s.exec.Run(context.Background(), s.store, in, s.out); !errors.Is(err, framework.ErrInput) {
				t.Errorf("%v: target %d gives %v", c, bad, err)
			}
		}
		if err := s.exec.Run(context.Background(), s.store, c.inputs(1), s.out); err != nil {
			t.Errorf("%v: after a failure: %v", c, err)
		}
	}
}

func TestLossInBlocksRunsWithoutAllocating(t *testing.T) {
	needsAVX2(t)
	be := avx2.OpenBlock(2, block)
	defer func() { _ = be.Close() }()
	for _, c := range headCases()[:6] {
		s, in := c.open(t, be, c.graph(t, false)), c.inputs(1)
		run := func() {
			if err := s.exec.Run(context.Background(), s.store, in, s.out); err != nil {
				t.Fatal(err)
			}
		}
		run()
		if n := testing.AllocsPerRun(3, run); n > 0 {
			t.Errorf("%v: %v allocations a run", c, n)
		}
	}
}

// Logits that fit in one block are made once, for the loss and its gradient.
func TestLossOfOneBlockIsExpanded(t *testing.T) {
	needsAVX2(t)
	c := headCase{op: "linearcrossentropy", n: 100, k: 32, v: 50}
	be := avx2.OpenBlock(1, c.n*c.v)
	defer func() { _ = be.Close() }()
	joint := c.op + ".joint" // the graph has a gradient
	if uses(t, be, c.graph(t, false), joint) {
		t.Error("one block has a kernel")
	}
	c.n++
	if !uses(t, be, c.graph(t, false), joint) {
		t.Error("more than a block has no kernel")
	}
}

func TestConformanceOfLossesInBlocks(t *testing.T) {
	needsAVX2(t)
	open := func(n int) (framework.Backend, error) { return avx2.OpenBlock(n, block), nil }
	others := map[string]string{}
	for _, op := range graph.Ops() {
		if !strings.Contains(op.Name, "crossentropy") {
			others[op.Name] = "has the same kernel as in the backend"
		}
	}
	backendtest.Run(t, backendtest.Options{
		Open:        func() (framework.Backend, error) { return open(2) },
		OpenThreads: open,
		Reference:   func() (framework.Backend, error) { return framework.Backends.Open("scalar") },
		Reference64: func() framework.Backend { return scalar.Open64(2) },
		Modes:       []string{"ops", "workers"},
		Skip:        others,
	})
}
