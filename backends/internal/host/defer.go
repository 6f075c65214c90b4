package host

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// source is where the contents of an entry come from when they are needed.
type source struct {
	mu     sync.Mutex
	fill   func(dst *tensor.Tensor) error
	data   []byte // memory of the entry's own, nil as long as nobody reads it in place
	filled atomic.Bool
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

// contents returns e with its data: its own, or, where e has no memory, in what
// room gives for so many bytes.
func (e *entry) contents(room func(n int) []byte) (tensor.Tensor, error) {
	if e.source == nil {
		return e.t, nil
	}
	e.source.mu.Lock()
	defer e.source.mu.Unlock()
	if e.source.data != nil {
		return tensor.Tensor{Type: e.t.Type, Data: e.source.data}, e.fillLocked()
	}
	t := tensor.Tensor{Type: e.t.Type, Data: room(e.t.Type.Bytes())}
	return t, e.source.fill(&t)
}

// hold gives a deferred entry memory of its own, which fill fills.
func (e *entry) hold() []byte {
	e.source.mu.Lock()
	defer e.source.mu.Unlock()
	if e.source.data == nil {
		e.source.data = tensor.AlignedBytes(e.t.Type.Bytes())
	}
	return e.source.data
}

// fill fills the memory of an entry that holds its contents, once.
func (e *entry) fill() error {
	e.source.mu.Lock()
	defer e.source.mu.Unlock()
	return e.fillLocked()
}

func (e *entry) fillLocked() error {
	if e.source.filled.Load() {
		return nil
	}
	err := e.source.fill(&tensor.Tensor{Type: e.t.Type, Data: e.source.data})
	e.source.filled.Store(err == nil)
	return err
}

// holdStates has the deferred states of the graph whose contents a kernel reads
// hold them. Those that kernels read only through layouts of their own do not.
func (b *binder) holdStates() {
	for _, n := range b.plan.Graph.Nodes {
		if n.IsInput() || n.IsState() || n.Op.View {
			continue
		}
		read := b.readInPlace(n)
		for i, v := range n.In {
			if read[i] {
				b.holdState(v)
			}
		}
	}
	for _, o := range b.plan.Graph.Outputs {
		b.holdState(o.Value)
	}
	for _, u := range b.plan.Graph.Updates {
		b.holdState(u.Value)
	}
}

func (b *binder) holdState(v graph.Value) {
	state := b.plan.Slots[v].State
	if state == nil || b.held[state] != nil {
		return
	}
	if e := b.states[state]; e.source != nil {
		b.held[state] = e.hold()
		b.out.held = append(b.out.held, e)
	}
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
			if p.inPlace {
				return p.layout.data[:n:n]
			}
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

// fetch fills what deferred states are wanted for: the memory of those that are
// held, and layouts that are stale. Each worker takes one at a time.
func (b *bound) fetch(workers int) error {
	var jobs []func(rooms *[][]byte) error
	for _, e := range b.held { // first: they are the largest
		if !e.source.filled.Load() {
			jobs = append(jobs, func(*[][]byte) error { return e.fill() })
		}
	}
	for _, p := range b.prepared {
		if p.late != nil && !p.layout.fresh() {
			jobs = append(jobs, func(rooms *[][]byte) error {
				return p.layout.update(func() error { return p.fillLate(rooms) })
			})
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	next := make(chan func(*[][]byte) error, len(jobs))
	for _, j := range jobs {
		next <- j
	}
	close(next)
	failures := make(chan error, workers)
	for range workers {
		go func() {
			var err error
			var rooms [][]byte // for one weight after another
			for j := range next {
				if err == nil {
					err = j(&rooms)
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
