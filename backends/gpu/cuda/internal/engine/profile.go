package engine

import (
	"context"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Timing is what the work of one node took on the device.
type Timing struct {
	Node *graph.Node // of the lowered graph; its types say what is bf16
	Took time.Duration
}

// Profile runs g on s node by node, each between two events, and returns the
// shortest time of each in rounds runs. Events cost about a microsecond, and
// nothing overlaps: the sum is more than a run takes. Results are not returned,
// and new states stay where they were computed.
func (b *Backend) Profile(ctx context.Context, g *graph.Graph, fs framework.Store, in []*tensor.Tensor, rounds int) ([]Timing, error) {
	p, err := b.plan(g)
	if err != nil {
		return nil, err
	}
	e := &executable{backend: b, plan: p}
	s, ok := fs.(*store)
	if !ok || len(in) != len(p.Graph.Inputs) {
		return nil, errors.Wrap(framework.ErrMismatch, "profile")
	}
	bd := newBinder(p, s, map[string]*entry{})
	if err := bd.bindParts(); err != nil {
		return nil, errors.CombineErrors(err, bd.out.free())
	}
	defer func() { _ = bd.out.free() }()
	for i, t := range in {
		if !fits(t, e.plan.Graph.Inputs[i].Out[0]) {
			return nil, errors.Wrapf(framework.ErrMismatch, "input %q", p.Graph.Inputs[i].Name())
		}
		copy(bd.out.in.Bytes()[bd.out.inputs[i].offset:], t.Data)
	}
	if err := bd.out.launch(); err != nil { // inputs and coefficients are there from now on
		return nil, err
	}
	return bd.out.time(ctx, rounds)
}

// time runs the steps of each node between events.
func (b *bound) time(ctx context.Context, rounds int) ([]Timing, error) {
	s := b.store.stream
	var events []*driver.Event
	defer func() {
		for _, e := range events {
			_ = e.Destroy()
		}
	}()
	for range len(b.marks) + 1 {
		e, err := b.store.device.context.NewEvent()
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	out := make([]Timing, len(b.marks))
	for round := range rounds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := b.record(events); err != nil {
			return nil, err
		}
		if err := s.Synchronize(); err != nil {
			return nil, err
		}
		for i, m := range b.marks {
			took, err := events[i+1].Since(events[i])
			if err != nil {
				return nil, err
			}
			if round == 0 || took < out[i].Took {
				out[i] = Timing{m.node, took}
			}
		}
	}
	return out, nil
}

// record gives the steps to the stream, with an event before the first and after
// each node's last.
func (b *bound) record(events []*driver.Event) error {
	s := b.store.stream
	if err := events[0].Record(s); err != nil {
		return err
	}
	for i, m := range b.marks {
		for _, st := range b.steps[m.from:m.to] {
			if err := st.run(s); err != nil {
				return err
			}
		}
		if err := events[i+1].Record(s); err != nil {
			return err
		}
	}
	return nil
}
