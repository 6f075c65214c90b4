package stack_test

import (
	"context"
	"maps"
	"math"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/stack"
	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/train"
)

// launches counts the nodes of a plan that are work of the device, and the new states
// that are copied there because they are made elsewhere.
func launches(p *compile.Plan) (nodes, copies int) {
	for _, n := range p.Graph.Nodes {
		if !n.IsInput() && !n.IsState() && !n.Op.View {
			nodes++
		}
	}
	for _, u := range p.Graph.Updates {
		if p.Slots[compile.Root(u.Value)].State != u.State {
			copies++
		}
	}
	return nodes, copies
}

// The optimizer of nano-125m has less than a third of its launches, in the memory that
// it had, and with no more copies.
func TestTheOptimizerOfNanoHasFewerLaunches(t *testing.T) {
	m, r := nano(t)
	g, err := train.Apply(m, r)
	must(t, err)
	plan := func(passes ...func(*graph.Graph) (*graph.Graph, error)) *compile.Plan {
		p, err := backend(engine.NewDevice(nil, nil, nil, engine.BF16), passes...).Plan(g)
		must(t, err)
		return p
	}
	before, after := plan(), plan(stack.Stack)
	was, wasCopies := launches(before)
	is, isCopies := launches(after)
	t.Logf("%d launches became %d, %d products %d, %d copies %d, %d MiB %d",
		was, is, count(before.Graph, "matmul"), count(after.Graph, "matmul"), wasCopies, isCopies, before.Arena>>20, after.Arena>>20)
	stacks := map[int]int{}
	for _, n := range after.Graph.Nodes {
		if n.Op.Name == "matmul" {
			stacks[n.Out[0].Shape[0]]++
		}
	}
	// 48 matrices [768,768], 24 of [2048,768] and 12 of [768,2048], fifteen products each.
	if want := map[int]int{16: 3 * 15, 8: 3 * 15, 6: 2 * 15}; !maps.Equal(stacks, want) {
		t.Errorf("products by the size of their stacks: %v, want %v", stacks, want)
	}
	if is > was/3 {
		t.Errorf("%d launches became %d: more than a third", was, is)
	}
	if isCopies > wasCopies {
		t.Errorf("%d new states are copied, %d without stacks", isCopies, wasCopies)
	}
	if room := 16 << 20; after.Arena > before.Arena+room {
		t.Errorf("the arena of %d bytes became %d", before.Arena, after.Arena)
	}
}

// text is tokens of which each follows from the one before.
func text(t *testing.T) *data.Tokens {
	t.Helper()
	k, ids := rng.NewKey(7, "text"), make([]uint16, 400)
	for i := 1; i < len(ids); i++ {
		ids[i] = (ids[i-1]*5 + 3) % 256
		if i%4 == 0 {
			ids[i] = uint16(k.Uint32(uint64(i)) % 256)
		}
	}
	tokens, err := data.NewTokens(ids, "gpt2:320")
	must(t, err)
	return tokens
}

// learn trains for a few steps, and returns the losses.
func learn(t *testing.T, b framework.Backend) (losses []float64) {
	t.Helper()
	ctx := context.Background()
	c, r := small()
	c.Quant, c.Head = "none", "f16" // codes part trainings when the first is rounded the other way
	tr, err := train.New(ctx, b, newModel(t, c), r)
	must(t, err)
	must(t, tr.Initialize(ctx))
	batches, err := r.Batches(text(t))
	must(t, err)
	for range 3 {
		x, err := tr.Step(ctx, batches)
		must(t, err)
		losses = append(losses, x.Loss)
	}
	must(t, tr.Close())
	return losses
}

// A training on the device with stacks goes as without them, and as on the reference
// backend.
func TestTrainingWithStacksIsTheSame(t *testing.T) {
	scalar, err := framework.Backends.Open("scalar")
	must(t, err)
	want := learn(t, scalar)
	d := cudatest.Open(t, engine.F32)
	stacked := 0
	alone, together := learn(t, backend(d)), learn(t, backend(d, func(g *graph.Graph) (*graph.Graph, error) {
		out, err := stack.Stack(g)
		if out != g {
			stacked++
		}
		return out, err
	}))
	if stacked != 1 {
		t.Errorf("%d graphs were stacked, want that of the optimizer", stacked)
	}
	t.Logf("losses %.5f, stacked %.5f, reference %.5f", alone, together, want)
	for i := range want {
		if math.Abs(together[i]-alone[i]) > 1e-5 || math.Abs(together[i]-want[i]) > 1e-5 {
			t.Errorf("loss %d is %v, without stacks %v, of the reference %v", i, together[i], alone[i], want[i])
		}
	}
	if want[2] == want[0] {
		t.Error("nothing is learned")
	}
}
