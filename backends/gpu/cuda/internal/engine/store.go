package engine

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// entry is one named tensor. Its memory never moves, so kernels stay bound.
type entry struct {
	t       tensor.Type
	data    driver.Pointer
	version atomic.Uint64 // counts changes of the contents
}

// store implements framework.Store in a device's memory.
type store struct {
	backend *Backend
	device  *Device
	parent  *store
	stream  *driver.Stream

	mu      sync.Mutex
	entries map[string]*entry
	bound   map[*executable]bool // executables that hold memory for s
	closed  atomic.Bool

	work      driver.Pointer // of the values of a run: one graph at a time runs on s
	workBytes int
	blas      driver.Pointer // cuBLASLt's working memory

	// shape counts changes of what a name, or the working memory, is; a bound
	// run whose count is older binds again.
	shape atomic.Uint64
}

func newStore(b *Backend, parent *store) (*store, error) {
	stream, err := b.device.context.NewStream()
	if err != nil {
		return nil, errors.Wrap(err, "new store")
	}
	return &store{
		backend: b, device: b.device, parent: parent, stream: stream,
		entries: map[string]*entry{}, bound: map[*executable]bool{},
	}, nil
}

// generation is the sum of the shape counts from s to the root.
func (s *store) generation() uint64 {
	g := uint64(0)
	for ; s != nil; s = s.parent {
		g += s.shape.Load()
	}
	return g
}

// find returns the entry that name means in s, and whose it is.
func (s *store) find(name string) (*entry, *store) {
	for ; s != nil; s = s.parent {
		s.mu.Lock()
		e := s.entries[name]
		s.mu.Unlock()
		if e != nil {
			return e, s
		}
	}
	return nil, nil
}

// alloc returns memory of the device. Where it is full, the error says what may
// be made smaller.
func (s *store) alloc(bytes int, what string) (driver.Pointer, error) {
	p, err := s.device.context.Alloc(max(bytes, 1))
	if errors.Is(err, driver.ErrOutOfMemory) {
		err = errors.WithHint(err, "lower --batch (and raise --accum), or --window; other programs on the device take memory too")
	}
	return p, errors.Wrapf(err, "memory for %s", what)
}

// add has name mean new memory of type t in s itself.
func (s *store) add(name string, t tensor.Type) (*entry, error) {
	p, err := s.alloc(t.Bytes(), name)
	if err != nil {
		return nil, err
	}
	e := &entry{t: tensor.Type{DType: t.DType, Shape: slices.Clone(t.Shape)}, data: p}
	old, _ := s.find(name)
	s.mu.Lock()
	mine := s.entries[name]
	s.entries[name] = e
	s.mu.Unlock()
	if old != nil {
		s.shape.Add(1) // it is replaced, or hidden
	}
	if mine != nil {
		err = s.device.context.Free(mine.data)
	}
	return e, err
}

// state returns the memory of a state that a graph reads and, if written is
// true, updates: then it is made s's own first.
func (s *store) state(n *graph.Node, written bool) (*entry, error) {
	e, owner := s.find(n.Name())
	switch {
	case e == nil && n.IsParam():
		return nil, errors.WithHint(errors.Wrapf(framework.ErrNoState, "parameter %q", n.Name()), "initialize or load the model first")
	case e == nil:
		e, err := s.add(n.Name(), n.Out[0])
		if err != nil {
			return nil, err
		}
		return e, errors.Wrapf(s.stream.Fill(e.data, 0, e.t.Bytes()), "clear %q", n.Name())
	case !e.t.Equal(n.Out[0]):
		return nil, errors.Wrapf(framework.ErrMismatch, "state %q is %v, the graph declares %v", n.Name(), e.t, n.Out[0])
	case written && owner != s:
		own, err := s.add(n.Name(), n.Out[0])
		if err != nil {
			return nil, err
		}
		return own, errors.Wrapf(s.stream.Copy(own.data, e.data, e.t.Bytes()), "copy %q", n.Name())
	}
	return e, nil
}

// Put implements framework.Store.
func (s *store) Put(_ context.Context, name string, t *tensor.Tensor) error {
	if s.closed.Load() {
		return errors.Wrapf(framework.ErrClosed, "put %q", name)
	}
	if err := t.Check(); err != nil {
		return errors.Wrapf(framework.ErrMismatch, "put %q: %v", name, err)
	}
	if len(t.Data) != t.Bytes() {
		return errors.Wrapf(framework.ErrMismatch, "put %q: %d bytes for %v", name, len(t.Data), t.Type)
	}
	s.mu.Lock()
	e := s.entries[name]
	s.mu.Unlock()
	if e == nil || !e.t.Equal(t.Type) {
		var err error
		if e, err = s.add(name, t.Type); err != nil {
			return errors.Wrapf(err, "put %q", name)
		}
	}
	e.version.Add(1)
	return errors.Wrapf(s.device.context.Upload(e.data, t.Data), "put %q", name)
}

// Get implements framework.Store.
func (s *store) Get(ctx context.Context, name string) (*tensor.Tensor, error) {
	if s.closed.Load() {
		return nil, errors.Wrapf(framework.ErrClosed, "get %q", name)
	}
	e, _ := s.find(name)
	if e == nil {
		return nil, errors.Wrapf(framework.ErrNoState, "%q", name)
	}
	t := tensor.New(e.t)
	return t, s.ReadInto(ctx, name, t)
}

// ReadInto implements framework.Reader.
func (s *store) ReadInto(_ context.Context, name string, dst *tensor.Tensor) error {
	if s.closed.Load() {
		return errors.Wrapf(framework.ErrClosed, "read %q", name)
	}
	e, owner := s.find(name)
	if e == nil {
		return errors.Wrapf(framework.ErrNoState, "%q", name)
	}
	if !dst.Equal(e.t) || len(dst.Data) != e.t.Bytes() {
		return errors.Wrapf(framework.ErrMismatch, "read %q: it is %v", name, e.t)
	}
	if err := owner.stream.Synchronize(); err != nil {
		return errors.Wrapf(err, "read %q", name)
	}
	return errors.Wrapf(s.device.context.Download(dst.Data, e.data), "read %q", name)
}

// Names implements framework.Store.
func (s *store) Names() []string {
	set := map[string]bool{}
	for p := s; p != nil; p = p.parent {
		p.mu.Lock()
		for n := range p.entries {
			set[n] = true
		}
		p.mu.Unlock()
	}
	names := make([]string, 0, len(set))
	for n := range set {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Fork implements framework.Store.
func (s *store) Fork() (framework.Store, error) {
	if s.closed.Load() {
		return nil, errors.Wrap(framework.ErrClosed, "fork")
	}
	return newStore(s.backend, s)
}

// onClose has e drop its binding to s when s is closed.
func (s *store) onClose(e *executable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound[e] = true
}

// Close implements framework.Store.
func (s *store) Close() error {
	if s.closed.Swap(true) || s.backend.closed.Load() {
		return nil
	}
	s.mu.Lock()
	bound, entries := s.bound, s.entries
	s.entries, s.bound = map[string]*entry{}, map[*executable]bool{}
	s.mu.Unlock()
	err := s.stream.Synchronize()
	for e := range bound {
		err = errors.CombineErrors(err, e.unbind(s))
	}
	for _, e := range entries {
		err = errors.CombineErrors(err, s.device.context.Free(e.data))
	}
	for _, p := range []driver.Pointer{s.work, s.blas} {
		if p != 0 {
			err = errors.CombineErrors(err, s.device.context.Free(p))
		}
	}
	return errors.Wrap(errors.CombineErrors(err, s.stream.Destroy()), "close store")
}

// workspace returns memory for the values of one run. Where it grows, what is
// bound to the smaller one binds again when it runs next.
func (s *store) workspace(bytes int) (driver.Pointer, error) {
	if s.workBytes >= bytes {
		return s.work, nil
	}
	if s.work != 0 { // first: the larger one may need its room
		old := s.work
		s.work, s.workBytes = 0, 0
		s.shape.Add(1)
		if err := s.device.context.Free(old); err != nil {
			return 0, err
		}
	}
	p, err := s.alloc(bytes, "the values of a run")
	if err != nil {
		return 0, err
	}
	s.work, s.workBytes = p, bytes
	return p, nil
}

// blasBytes is the working memory that cuBLASLt's guide recommends for
// compute capability 9.0.
const blasBytes = 32 << 20

// blasWork returns cuBLASLt's working memory.
func (s *store) blasWork() (driver.Pointer, error) {
	if s.blas == 0 {
		p, err := s.alloc(blasBytes, "products of matrices")
		if err != nil {
			return 0, err
		}
		s.blas = p
	}
	return s.blas, nil
}

var (
	_ framework.Store  = (*store)(nil)
	_ framework.Reader = (*store)(nil)
)
