package cuda

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/roofline"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/train"
)

// profiles is the variable that names a file without its end: the test writes
// tables for people (.md) and for programs (.json) there.
const profiles = "TERN_CUDA_PROFILE"

// timed is a task with what each of its ops took.
type timed struct {
	task
	Rows  []count `json:"ops"`
	Total count   `json:"total"`
}

// TestEveryNodeIsTimed profiles training and decoding with random weights: of
// nano-125m on a real device, and elsewhere or with -short of a small model, to see
// that it can be done.
func TestEveryNodeIsTimed(t *testing.T) {
	var m *model.Model
	var r train.Recipe
	streams, rounds := 256, 5
	if cudatest.Real() && !testing.Short() {
		m, r = nano(t)
	} else {
		c, recipe := small()
		c.Layers, recipe.Optimizer, recipe.Window, streams, rounds = 1, "adamw", 16, 2, 1
		var err error
		m, err = model.New(c)
		must(t, err)
		r = recipe
	}
	opened, err := generating(t, engine.BF16)()
	must(t, err)
	b := opened.(*engine.Backend)
	all := profile(t, b, m, r, streams, rounds)
	must(t, b.Close())
	for _, k := range all {
		if k.Total.Nodes == 0 || k.Total.Took <= 0 || k.Total.Floor <= 0 {
			t.Errorf("%s: %+v", k.Name, k.Total)
		}
	}
	write(t, all)
}

// profile times the tasks of a model.
func profile(t *testing.T, b *engine.Backend, m *model.Model, r train.Recipe, streams, rounds int) []timed {
	t.Helper()
	ctx := context.Background()
	tr, err := train.New(ctx, b, m, r)
	must(t, err)
	must(t, tr.Initialize(ctx))
	packed, err := b.NewStore()
	must(t, err)
	w, err := modelfile.Collect(ctx, m, tr.Store())
	must(t, err)
	must(t, w.Put(ctx, packed))
	var all []timed
	work := tasks(t, m, r, streams)
	for _, k := range work[:steps] {
		all = append(all, profileTask(t, b, k, tr.Store(), m, rounds))
	}
	must(t, tr.Close()) // its memory is wanted
	for _, k := range work[steps:] {
		s, err := packed.Fork() // caches of other sizes have the same names
		must(t, err)
		all = append(all, profileTask(t, b, k, s, m, rounds))
		must(t, s.Close())
	}
	must(t, packed.Close())
	return all
}

func profileTask(t *testing.T, b *engine.Backend, k task, s framework.Store, m *model.Model, rounds int) timed {
	t.Helper()
	begin := time.Now()
	times, err := b.Profile(context.Background(), k.graph, s, inputsOf(k.graph, m.Config), rounds)
	must(t, err)
	all := table{}
	for _, v := range times {
		all.add(v.Node, roofline.H200, v.Took)
	}
	rows, total := all.sorted()
	t.Logf("in %v\n%s", time.Since(begin).Round(time.Millisecond), all.markdown(k))
	return timed{k, rows, total}
}

// inputsOf makes inputs that a model takes: tokens of its vocabulary, the last
// position of its caches, and for the optimizer any numbers but zero.
func inputsOf(g *graph.Graph, c model.Config) []*tensor.Tensor {
	var in []*tensor.Tensor
	for _, n := range g.Inputs {
		x := tensor.New(n.Out[0])
		for i := range x.Shape.Numel() {
			switch {
			case x.DType == tensor.F32:
				x.F32()[i] = 0.5
			case n.Name() == "pos":
				x.I32()[i] = int32(min(cached, c.Context) - 1)
			case n.Name() == "last":
				x.I32()[i] = int32(i)
			default:
				x.I32()[i] = int32(i * 7919 % c.Vocab)
			}
		}
		in = append(in, x)
	}
	return in
}

// write writes the tables where the variable says.
func write(t *testing.T, all []timed) {
	t.Helper()
	name := os.Getenv(profiles)
	if name == "" {
		return
	}
	var s strings.Builder
	for i, k := range all {
		rows := table{}
		for _, c := range k.Rows {
			rows[c.Op] = &c
		}
		if i > 0 {
			s.WriteString("\n")
		}
		s.WriteString(rows.markdown(k.task))
	}
	must(t, os.WriteFile(name+".md", []byte(s.String()), 0o644))
	js, err := json.MarshalIndent(all, "", "\t")
	must(t, err)
	must(t, os.WriteFile(name+".json", append(js, '\n'), 0o644))
}
