package plugins

import (
	"context"
	"sync"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins/internal/arena"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// maxEarly bounds the cancellations kept for runs that have not come yet.
const maxEarly = 1024

// backendSession is one open backend in the plugin.
type backendSession struct {
	backend framework.Backend
	memory  *arena.Arena // nil: tensors travel in streams

	mu          sync.Mutex
	closed      bool
	stores      map[uint64]framework.Store
	executables map[uint64]*servedGraph
	runs        map[uint64]context.CancelFunc
	early       map[uint64]bool // runs that were canceled before they came
}

// describe is what the host learns when it opens a session.
func (s *backendSession) describe() *wire.BackendOpenReply {
	r := &wire.BackendOpenReply{Name: s.backend.Name()}
	if d, ok := s.backend.(framework.Describer); ok {
		info := d.Describe()
		r.Device, r.Threads, r.Native, r.Notes = info.Device, int64(info.Threads), info.Native, info.Notes
	}
	_, r.Estimates = s.backend.(framework.Estimator)
	_, r.Memory = s.backend.(framework.OwnMemory)
	if s.memory != nil {
		r.Nonce = s.memory.Nonce()
	}
	return r
}

// close closes everything, the backend last.
func (s *backendSession) close() error {
	s.mu.Lock()
	stores, executables := s.stores, s.executables
	s.closed, s.stores, s.executables = true, nil, nil
	for _, cancel := range s.runs {
		cancel()
	}
	s.mu.Unlock()
	var err error
	for _, e := range executables {
		err = errors.CombineErrors(err, e.exe.Close())
	}
	for _, st := range stores {
		err = errors.CombineErrors(err, st.Close())
	}
	return errors.CombineErrors(err, s.backend.Close())
}

// keep has id mean an executable.
func (s *backendSession) keep(id uint64, g *graph.Graph, exe framework.Executable) error {
	e := &servedGraph{exe: exe}
	for _, n := range g.Inputs {
		e.in = append(e.in, n.Out[0])
	}
	for _, o := range g.Outputs {
		e.out = append(e.out, o.Value.Type())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := taken(s.closed, id, s.executables); err != nil {
		return err
	}
	s.executables[id] = e
	return nil
}

// keepStore has id mean a store.
func (s *backendSession) keepStore(id uint64, st framework.Store) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := taken(s.closed, id, s.stores); err != nil {
		return err
	}
	s.stores[id] = st
	return nil
}

// taken returns an error if id may not be added to what there is.
func taken[T any](closed bool, id uint64, have map[uint64]T) error {
	if closed {
		return errors.Wrap(framework.ErrClosed, "backend")
	}
	if _, dup := have[id]; dup || id == 0 {
		return errors.Newf("id %d is taken", id)
	}
	return nil
}

func (s *backendSession) store(id uint64) (framework.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.stores[id]; st != nil {
		return st, nil
	}
	return nil, errors.Wrap(framework.ErrClosed, "store")
}

func (s *backendSession) executable(id uint64) (*servedGraph, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.executables[id]; e != nil {
		return e, nil
	}
	return nil, errors.Wrap(framework.ErrClosed, "executable")
}

// view is a tensor in the arena.
func (s *backendSession) view(t *wire.BackendTensor) (*tensor.Tensor, error) {
	typ, err := tensor.ParseType(t.GetType())
	if err != nil {
		return nil, errors.Wrapf(framework.ErrMismatch, "%v", err)
	}
	if uint64(typ.Bytes()) != t.GetLength() {
		return nil, errors.Wrapf(framework.ErrMismatch, "%d bytes for %v", t.GetLength(), typ)
	}
	data, err := s.room(t.GetOffset(), t.GetLength())
	if err != nil {
		return nil, err
	}
	return &tensor.Tensor{Type: typ, Data: data}, nil
}

// room is a piece of the arena.
func (s *backendSession) room(offset, length uint64) ([]byte, error) {
	if s.memory == nil {
		return nil, errors.Wrap(framework.ErrMismatch, "there is no shared memory")
	}
	data, err := s.memory.Bytes(arena.Span{Offset: offset, Length: length})
	if err != nil {
		return nil, errors.Wrapf(framework.ErrMismatch, "%v", err)
	}
	return data, nil
}

// begin notes a run, so that cancel finds it; done forgets it.
func (s *backendSession) begin(ctx context.Context, id uint64) (run context.Context, done func()) {
	run, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.early[id] {
		delete(s.early, id)
		cancel()
	}
	s.runs[id] = cancel
	return run, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.runs, id)
	}
}

// cancel stops a run, as far as the backend still may.
func (s *backendSession) cancel(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stop := s.runs[id]; stop != nil {
		stop()
		return
	}
	if len(s.early) >= maxEarly {
		clear(s.early)
	}
	s.early[id] = true
}
