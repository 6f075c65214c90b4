package host

import (
	"context"
	"sync"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// source is where the contents of an entry come from when they are needed.
type source struct {
	mu   sync.Mutex
	fill func(dst *tensor.Tensor) error
	data []byte // nil until the entry itself holds its contents
}

// Defer implements framework.Deferrer.
func (s *store) Defer(ctx context.Context, name string, t tensor.Type, fill func(dst *tensor.Tensor) error) error {
	if s.backend.config.Float64 {
		x := tensor.New(t)
		if err := fill(x); err != nil {
			return err
		}
		return s.Put(ctx, name, x)
	}
	if s.closed.Load() {
		return errors.Wrapf(framework.ErrClosed, "defer %q", name)
	}
	s.put(name, &entry{t: tensor.Tensor{Type: t}, lent: true, source: &source{fill: fill}})
	return nil
}

// contents returns e with its data: its own, or, where e does not hold any, in
// memory that room gives for so many bytes.
func (e *entry) contents(room func(n int) []byte) (tensor.Tensor, error) {
	if e.source == nil {
		return e.t, nil
	}
	e.source.mu.Lock()
	defer e.source.mu.Unlock()
	t := tensor.Tensor{Type: e.t.Type, Data: e.source.data}
	if t.Data != nil {
		return t, nil
	}
	t.Data = room(t.Type.Bytes())
	return t, e.source.fill(&t)
}

// hold is contents in memory of e's own, which it holds from then on.
func (e *entry) hold() (tensor.Tensor, error) {
	t, err := e.contents(tensor.AlignedBytes)
	if err != nil || e.source == nil {
		return t, err
	}
	e.source.mu.Lock()
	defer e.source.mu.Unlock()
	if e.source.data == nil {
		e.source.data = t.Data
	}
	t.Data = e.source.data
	return t, nil
}

// holdStates has the deferred states of the graph whose contents a kernel reads
// hold them. Those that kernels read only through layouts of their own do not.
func (b *binder) holdStates() error {
	for _, n := range b.plan.Graph.Nodes {
		if n.IsInput() || n.IsState() || n.Op.View {
			continue
		}
		read := b.readInPlace(n)
		for i, v := range n.In {
			if state := b.plan.Slots[v].State; state != nil && read[i] {
				if err := b.holdState(state); err != nil {
					return err
				}
			}
		}
	}
	var leave []graph.Value
	for _, o := range b.plan.Graph.Outputs {
		leave = append(leave, o.Value)
	}
	for _, u := range b.plan.Graph.Updates {
		leave = append(leave, u.Value)
	}
	for _, v := range leave {
		if state := b.plan.Slots[v].State; state != nil {
			if err := b.holdState(state); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *binder) holdState(state *graph.Node) error {
	t, err := b.states[state].hold()
	if err != nil {
		return errors.Wrapf(err, "state %q", state.Name())
	}
	b.held[state] = t.Data
	return nil
}

// readInPlace reports which operands n's kernel reads where they lie.
func (b *binder) readInPlace(n *graph.Node) []bool {
	read := make([]bool, len(n.In))
	for i := range read {
		read[i] = true
	}
	for i, idle := range n.Idle() {
		read[i] = !idle
	}
	k, ok := b.backend.table.Pick(n)
	if !ok || k.Prepare == nil {
		return read
	}
	for _, p := range k.Prepare(n) {
		if p.Sole && b.fromStates(n, p) {
			for _, i := range p.Operands {
				read[i] = false
			}
		}
	}
	return read
}

// deferred reports whether a layout is made of contents that are not held, so
// that they must be fetched to fill it.
func (p Prepared) deferred(from []*entry) bool {
	for _, e := range from {
		if p.Sole && e.source != nil {
			return true
		}
	}
	return false
}

// fillLate fills a layout from contents that are fetched for it into memory of
// rooms, one for each operand, on the calling goroutine.
func (p preparation) fillLate(rooms *[][]byte) error {
	in := make([]tensor.Tensor, len(p.layout.from))
	for len(*rooms) < len(in) {
		*rooms = append(*rooms, nil)
	}
	for i, e := range p.layout.from {
		t, err := e.contents(func(n int) []byte {
			room := &(*rooms)[i]
			if len(*room) < n {
				*room = tensor.AlignedBytes(n)
			}
			return (*room)[:n:n]
		})
		if err != nil {
			return err
		}
		in[i] = tensor.Tensor{Type: p.types[i], Data: t.Data}
	}
	for _, l := range p.late(p.layout.data, in) {
		l.Do(0, l.Items)
	}
	return nil
}

// refreshLate fills the layouts of deferred states that are stale, each worker
// fetching and filling one at a time.
func refreshLate(ps []preparation, workers int) error {
	var stale []preparation
	for _, p := range ps {
		if p.late != nil && !p.layout.fresh() {
			stale = append(stale, p)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	next := make(chan preparation, len(stale))
	for _, p := range stale {
		next <- p
	}
	close(next)
	failures := make(chan error, workers)
	for range workers {
		go func() {
			var err error
			var rooms [][]byte // for one weight after another
			for p := range next {
				if err == nil {
					err = p.layout.update(func() error { return p.fillLate(&rooms) })
				}
			}
			failures <- err
		}()
	}
	var err error
	for range workers {
		err = errors.CombineErrors(err, <-failures)
	}
	return err
}
