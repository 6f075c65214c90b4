package joined

import (
	"fmt"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fuse"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/attention"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/linear"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/rows"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%+v", err)
	}
}

// backend makes a backend of all kernels, with or without the passes.
func backend(d *engine.Device, join bool) *engine.Backend {
	c := engine.Config{Name: "cuda", Device: d, Table: engine.Table{}, Fuser: fuse.New(fuse.Options{})}
	linear.Add(c.Table)
	attention.Add(c.Table)
	rows.Add(c.Table)
	c.Passes = append(c.Passes, quantized.Share)
	if join {
		Add(c.Table)
		c.Passes = []func(*graph.Graph) (*graph.Graph, error){Join, quantized.Share, JoinRows}
	}
	return engine.New(c)
}

// count counts the nodes of a plan that have work, all and by op.
func count(t *testing.T, b *engine.Backend, g *graph.Graph) (all int, by map[string]int) {
	t.Helper()
	p, err := b.Plan(g)
	must(t, err)
	by = map[string]int{}
	for _, n := range p.Graph.Nodes {
		if !n.IsInput() && !n.IsState() && !n.Op.View {
			all++
			by[n.Op.Name]++
		}
	}
	return all, by
}

// nano is a step of the preset nano-125m.
func nano(t *testing.T, B int) *graph.Graph {
	t.Helper()
	c, err := model.Preset("nano-125m")
	must(t, err)
	m, err := model.New(c)
	must(t, err)
	g, err := m.Step(B, 1, 1024, model.Pass{Packed: true, F16: true, CacheType: tensor.F16})
	must(t, err)
	return g
}

// Without joined nodes a step of decoding has 234. Of 8 sequences it has as few as of
// one.
func TestDecodingHasFewNodes(t *testing.T) {
	d := cudatest.Open(t, engine.BF16)
	few := map[string]int{"attention": 12, "fused": 2, "gather": 1, "joined.heads": 12, "joined.product": 37}
	for _, c := range []struct {
		B    int
		want map[string]int
	}{
		{1, few},
		{8, few},
		{256, map[string]int{
			"attention": 12, "codebookmatmul": 13, "codebookmatmul.int8": 72, "fused": 2, "gather": 2, "joined.cache": 12, "joined.read": 1,
			"joined.written": 23, "rmsnorm": 1, "streamwrite": 1, "swiglu.int8": 12,
		}},
	} {
		all, by := count(t, backend(d, true), nano(t, c.B))
		if fmt.Sprint(by) != fmt.Sprint(c.want) {
			t.Errorf("%d sequences: %d nodes, %v, want %v", c.B, all, by, c.want)
		}
	}
}

// Caches are changed where they lie: what a run leaves in them is no value of its own,
// and nothing is copied.
func TestCachesAreChangedInPlace(t *testing.T) {
	d := cudatest.Open(t, engine.BF16)
	for _, B := range []int{1, 256} {
		p, err := backend(d, true).Plan(nano(t, B))
		must(t, err)
		for _, u := range p.Graph.Updates {
			if s := p.Slots[u.Value]; s.State != u.State || u.Value.N.Op != opHeads && u.Value.N.Op != opCache {
				t.Errorf("%d sequences: %s is made by %s in %+v", B, u.State.Name(), u.Value.N.Op.Name, s)
			}
		}
		if len(p.Graph.Updates) != 24 {
			t.Errorf("%d updates", len(p.Graph.Updates))
		}
	}
}
