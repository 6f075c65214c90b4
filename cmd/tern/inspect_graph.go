package main

import (
	"context"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/train"
)

// graphNames are the graphs that tern inspect prints.
var graphNames = []string{"train", "apply", "pack", "eval", "prefill", "decode"}

// traceGraph traces a graph of m by name.
func traceGraph(name string, m *model.Model, r train.Recipe) (*graph.Graph, error) {
	rows := (m.Context + infer.Chunk - 1) / infer.Chunk * infer.Chunk
	switch name {
	case "train":
		return m.Accumulate(r.Batch, r.Window, r.Accum)
	case "apply":
		return train.Apply(m, r)
	case "pack":
		return m.Pack()
	case "eval":
		return m.LossOf(r.Batch, r.Window, modelfile.Pass)
	case "prefill":
		return m.Step(1, infer.Chunk, rows, modelfile.Pass)
	case "decode":
		return m.Step(1, 1, rows, modelfile.Pass)
	}
	return nil, usagef(framework.Suggest(name, graphNames), "--graph %s", name)
}

// planner is a backend that can say how it would run a graph.
type planner interface {
	Plan(g *graph.Graph) (*compile.Plan, error)
}

// printGraph prints the text of a graph.
func (c inspectCmd) printGraph(_ context.Context, a *app, m *model.Model) (err error) {
	g, err := traceGraph(c.graph, m, c.s.Recipe)
	if err != nil {
		return err
	}
	if c.lowered {
		be, err := c.s.openBackend(a)
		if err != nil {
			return err
		}
		defer func() { err = errors.CombineErrors(err, be.Close()) }()
		p, ok := be.(planner)
		if !ok {
			return usagef("leave --lowered out", "backend %s does not say how it runs a graph", be.Name())
		}
		plan, err := p.Plan(g)
		if err != nil {
			return err
		}
		a.note("%s on %s: %d nodes lowered to %d, arena %s, %s in place", c.graph, be.Name(), len(g.Nodes), len(plan.Graph.Nodes),
			size(int64(plan.Arena)), plural(plan.InPlace, "value"))
		g = plan.Graph
	}
	_, err = g.WriteTo(a.stdout)
	return err
}
