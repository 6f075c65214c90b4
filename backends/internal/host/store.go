package host

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// entry is one named tensor. Its memory never moves, so kernels stay bound.
type entry struct {
	t       tensor.Tensor
	version atomic.Uint64 // counts changes of the contents
	lent    bool          // t is the caller's, who does not expect it to change
	source  *source       // not nil: t has no data, it is fetched when it is needed
}

// derived is another layout of some entries, kept beside them.
type derived struct {
	mu   sync.Mutex
	data []byte
	from []*entry
	seen []uint64 // versions that data was made from
}

// store implements framework.Store in this process's memory.
type store struct {
	backend *Backend
	parent  *store
	mu      sync.Mutex
	entries map[string]*entry
	layouts map[string]*derived
	bound   map[*executable]bool // executables that hold memory for s
	closed  atomic.Bool
	work    []byte // of the values of a run: one graph at a time runs on s
	// shape counts changes of which entry a name means; a bound run whose
	// count is older binds again.
	shape atomic.Uint64
}

func newStore(b *Backend, parent *store) *store {
	return &store{backend: b, parent: parent, entries: map[string]*entry{}, layouts: map[string]*derived{}, bound: map[*executable]bool{}}
}

// generation is the sum of the shape counts from s to the root.
func (s *store) generation() uint64 {
	g := uint64(0)
	for ; s != nil; s = s.parent {
		g += s.shape.Load()
	}
	return g
}

// find returns the entry that name means in s, or nil.
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

// add makes a zero entry in s itself. A name that is new to s and its parents
// means nothing to any binding; one that replaces or hides an entry does.
func (s *store) add(name string, t tensor.Type) *entry {
	return s.put(name, &entry{t: s.backend.alloc(t)})
}

// put has name mean e.
func (s *store) put(name string, e *entry) *entry {
	old, _ := s.find(name)
	s.mu.Lock()
	s.entries[name] = e
	s.mu.Unlock()
	if old != nil {
		s.shape.Add(1)
	}
	return e
}

// state returns the memory of a state that a graph reads and, if written is
// true, updates: then it is made s's own first. New memory of one that is filled
// little by little is sparse.
func (s *store) state(n *graph.Node, written, little bool) (*entry, error) {
	e, owner := s.find(n.Name())
	switch {
	case e == nil && n.IsParam():
		return nil, errors.WithHint(errors.Wrapf(framework.ErrNoState, "parameter %q", n.Name()), "initialize or load the model first")
	case e == nil && little:
		t := tensor.Tensor{Type: n.Out[0], Data: tensor.SparseBytes(s.backend.size(n.Out[0]))}
		return s.put(n.Name(), &entry{t: t}), nil
	case e == nil:
		return s.add(n.Name(), n.Out[0]), nil
	case !e.t.Type.Equal(n.Out[0]):
		return nil, errors.Wrapf(framework.ErrMismatch, "state %q is %v, the graph declares %v", n.Name(), e.t.Type, n.Out[0])
	case written && (owner != s || e.lent):
		t, err := e.contents(tensor.AlignedBytes)
		if err != nil {
			return nil, err
		}
		own := s.add(n.Name(), n.Out[0])
		copy(own.t.Data, t.Data)
		return own, nil
	}
	return e, nil
}

func (s *store) Put(_ context.Context, name string, t *tensor.Tensor) error {
	if s.closed.Load() {
		return errors.Wrapf(framework.ErrClosed, "put %q", name)
	}
	if err := t.Check(); err != nil {
		return errors.Wrapf(framework.ErrMismatch, "put %q: %v", name, err)
	}
	if len(t.Data) != t.Type.Bytes() {
		return errors.Wrapf(framework.ErrMismatch, "put %q: %d bytes for %v", name, len(t.Data), t.Type)
	}
	typ := s.backend.stateType(t.Type)
	s.mu.Lock()
	e := s.entries[name]
	s.mu.Unlock()
	if e == nil || e.lent || !e.t.Type.Equal(typ) {
		e = s.add(name, typ)
	}
	s.backend.load(e.t, t)
	e.version.Add(1)
	return nil
}

// Borrow implements framework.Borrower.
func (s *store) Borrow(ctx context.Context, name string, t *tensor.Tensor) error {
	wide := s.backend.config.Float64 && (t.DType == tensor.F32 || t.DType == tensor.F64)
	if wide || !tensor.Aligned(t.Data) || len(t.Data) != t.Type.Bytes() {
		return s.Put(ctx, name, t)
	}
	if s.closed.Load() {
		return errors.Wrapf(framework.ErrClosed, "borrow %q", name)
	}
	if err := t.Check(); err != nil {
		return errors.Wrapf(framework.ErrMismatch, "borrow %q: %v", name, err)
	}
	s.put(name, &entry{t: tensor.Tensor{Type: s.backend.stateType(t.Type), Data: t.Data}, lent: true})
	return nil
}

// ReadInto implements framework.Reader.
func (s *store) ReadInto(_ context.Context, name string, dst *tensor.Tensor) error {
	if s.closed.Load() {
		return errors.Wrapf(framework.ErrClosed, "read %q", name)
	}
	e, _ := s.find(name)
	if e == nil {
		return errors.Wrapf(framework.ErrNoState, "%q", name)
	}
	if !s.backend.accepts(dst, e.t.Type) {
		return errors.Wrapf(framework.ErrMismatch, "read %q: it is %v", name, e.t.Type)
	}
	have, err := e.contents(tensor.AlignedBytes)
	if err != nil {
		return err
	}
	s.backend.store(dst, have)
	return nil
}

func (s *store) Get(_ context.Context, name string) (*tensor.Tensor, error) {
	if s.closed.Load() {
		return nil, errors.Wrapf(framework.ErrClosed, "get %q", name)
	}
	e, _ := s.find(name)
	if e == nil {
		return nil, errors.Wrapf(framework.ErrNoState, "%q", name)
	}
	have, err := e.contents(tensor.AlignedBytes)
	if err != nil {
		return nil, err
	}
	t := tensor.New(s.backend.wireType(e.t.Type))
	copy(t.Data, have.Data)
	return t, nil
}

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

func (s *store) Fork() (framework.Store, error) {
	if s.closed.Load() {
		return nil, errors.Wrap(framework.ErrClosed, "fork")
	}
	return newStore(s.backend, s), nil
}

// onClose has e drop its binding to s when s is closed.
func (s *store) onClose(e *executable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound[e] = true
}

func (s *store) Close() error {
	s.closed.Store(true)
	s.mu.Lock()
	bound := s.bound
	s.work = nil
	s.entries, s.layouts, s.bound = map[string]*entry{}, map[string]*derived{}, map[*executable]bool{}
	s.mu.Unlock()
	for e := range bound {
		e.unbind(s)
	}
	return nil
}

// workspace returns memory for the values of one run, aligned to 64 bytes. Where
// it grows, what is bound to the smaller one binds again when it runs next, and
// holds the smaller one until then.
func (s *store) workspace(bytes int) []byte {
	if len(s.work) < bytes {
		s.work = tensor.AlignedBytes(bytes)
		s.shape.Add(1)
	}
	return s.work[:bytes:bytes]
}

// layout returns the memory of a prepared layout of the given entries, shared
// by all who ask for the same key in s or its parents.
func (s *store) layout(key string, bytes int, from []*entry) *derived {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.layouts[key]; d != nil && slices.Equal(d.from, from) && len(d.data) == bytes {
		return d
	}
	d := &derived{data: tensor.AlignedBytes(bytes), from: from}
	s.layouts[key] = d
	return d
}

// refresh fills d again if an entry has changed since it was filled.
func (d *derived) refresh(pool *Pool, fill []Loop) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current() {
		return
	}
	d.note()
	for _, l := range fill {
		pool.Run(l)
	}
}

// update is refresh by a function that may fail.
func (d *derived) update(fill func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current() {
		return nil
	}
	if err := fill(); err != nil {
		return err
	}
	d.note()
	return nil
}

// fresh reports whether no entry has changed since d was filled.
func (d *derived) fresh() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current()
}

func (d *derived) current() bool {
	fresh := d.seen != nil
	for i, e := range d.from {
		fresh = fresh && d.seen[i] == e.version.Load()
	}
	return fresh
}

// note says that d is made from what the entries are now.
func (d *derived) note() {
	if d.seen == nil {
		d.seen = make([]uint64, len(d.from))
	}
	for i, e := range d.from {
		d.seen[i] = e.version.Load()
	}
}
