package plugins

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"
	"google.golang.org/grpc"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins/internal/arena"
	"github.com/ternlm/tern/plugins/internal/wire"
)

const (
	// arenaFD is the file that a plugin inherits the arena as.
	arenaFD = 3
	// maxGraphText bounds the text of a graph, in bytes.
	maxGraphText = 64 << 20
	// maxStateName bounds the name of a state, in bytes.
	maxStateName = 4 << 10
)

// backendServer is the plugin's side of a backend.
type backendServer struct {
	wire.UnimplementedBackendServer
	plugin   Backend
	fd       uintptr
	mu       sync.Mutex
	memory   *arena.Arena // nil until it is asked for
	sessions map[uint64]*backendSession
}

// ServeBackend is the whole main of a plugin: it serves b until the host goes.
// Run by hand, the program says what it is.
func ServeBackend(b Backend) {
	serve(KindBackend, b.Meta, func(s *grpc.Server) { registerBackend(s, b, arenaFD) })
}

// registerBackend has s serve p, with the arena that is open as fd.
func registerBackend(s grpc.ServiceRegistrar, p Backend, fd uintptr) {
	wire.RegisterBackendServer(s, &backendServer{plugin: p, fd: fd, sessions: map[uint64]*backendSession{}})
}

// inherit returns the arena of size bytes, or nil where there is none.
func (b *backendServer) inherit(size uint64) *arena.Arena {
	if size == 0 {
		return nil
	}
	if b.memory == nil {
		// An error means that tensors travel in streams.
		b.memory, _ = arena.Inherit(b.fd, size)
	}
	if b.memory == nil || b.memory.Size() != size {
		return nil
	}
	return b.memory
}

// Open opens the backend with options, as a new session.
func (b *backendServer) Open(_ context.Context, r *wire.BackendOpenRequest) (*wire.BackendOpenReply, error) {
	registry := framework.NewRegistry[framework.Backend]("backend")
	registry.Register(b.plugin.Name, b.plugin.Open)
	be, err := registry.Open(strings.TrimSuffix(b.plugin.Name+":"+r.GetOptions(), ":"))
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.GetSession() == 0 || b.sessions[r.GetSession()] != nil {
		return nil, errors.CombineErrors(errors.Newf("session %d is taken", r.GetSession()), be.Close())
	}
	s := &backendSession{
		backend: be, memory: b.inherit(r.GetArena()), stores: map[uint64]framework.Store{},
		executables: map[uint64]*servedGraph{}, runs: map[uint64]context.CancelFunc{}, early: map[uint64]bool{},
	}
	b.sessions[r.GetSession()] = s
	return s.describe(), nil
}

// session returns what r names.
func (b *backendServer) session(id uint64) (*backendSession, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.sessions[id]; s != nil {
		return s, nil
	}
	return nil, errors.Wrap(framework.ErrClosed, "the backend was closed or the plugin started anew")
}

// Close closes a session and all that is in it.
func (b *backendServer) Close(_ context.Context, r *wire.BackendRef) (*wire.BackendEmpty, error) {
	s, err := b.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	delete(b.sessions, r.GetSession())
	b.mu.Unlock()
	return &wire.BackendEmpty{}, s.close()
}

// Compile compiles a graph under the id of its first piece.
func (b *backendServer) Compile(stream grpc.ClientStreamingServer[wire.BackendGraph, wire.BackendEmpty]) error {
	s, id, g, err := b.readGraph(stream)
	if err != nil {
		return err
	}
	exe, err := s.backend.Compile(stream.Context(), g)
	if err != nil {
		return err
	}
	if err := stream.Context().Err(); err != nil { // nobody waits for it any more
		return errors.CombineErrors(err, exe.Close())
	}
	if err := s.keep(id, g, exe); err != nil {
		return errors.CombineErrors(err, exe.Close())
	}
	return stream.SendAndClose(&wire.BackendEmpty{})
}

// Estimate returns the bytes that running a graph takes.
func (b *backendServer) Estimate(stream grpc.ClientStreamingServer[wire.BackendGraph, wire.BackendEstimate]) error {
	s, _, g, err := b.readGraph(stream)
	if err != nil {
		return err
	}
	e, ok := s.backend.(framework.Estimator)
	if !ok {
		return errors.Wrap(framework.ErrUnsupported, "estimate")
	}
	n, err := e.Estimate(g)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&wire.BackendEstimate{Bytes: n})
}

// Memory returns what is free and what there is of the device's own memory.
func (b *backendServer) Memory(_ context.Context, r *wire.BackendRef) (*wire.BackendMemory, error) {
	s, err := b.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	m, ok := s.backend.(framework.OwnMemory)
	if !ok {
		return nil, errors.Wrap(framework.ErrUnsupported, "memory")
	}
	free, total, err := m.Memory()
	return &wire.BackendMemory{Free: free, Total: total}, err
}

// readGraph receives the pieces of a graph's text and parses it.
func (b *backendServer) readGraph(from interface {
	Recv() (*wire.BackendGraph, error)
},
) (*backendSession, uint64, *graph.Graph, error) {
	var text bytes.Buffer
	var session, id uint64
	for first := true; ; first = false {
		m, err := from.Recv()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, 0, nil, err
		}
		if first {
			session, id = m.GetSession(), m.GetId()
		}
		if text.Len()+len(m.GetText()) > maxGraphText {
			return nil, 0, nil, errors.Wrapf(framework.ErrUnsupported, "a graph of more than %d bytes of text", maxGraphText)
		}
		text.Write(m.GetText())
	}
	s, err := b.session(session)
	if err != nil {
		return nil, 0, nil, err
	}
	g, err := graph.Read(&text)
	if err != nil {
		err = errors.Wrapf(framework.ErrUnsupported, "read the graph: %v", err)
		return nil, 0, nil, errors.WithHint(err, "where host and plugin are built from other versions of tern, build the plugin again")
	}
	return s, id, g, nil
}

// CloseExecutable closes an executable.
func (b *backendServer) CloseExecutable(_ context.Context, r *wire.BackendRef) (*wire.BackendEmpty, error) {
	s, err := b.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	e := s.executables[r.GetId()]
	delete(s.executables, r.GetId())
	s.mu.Unlock()
	if e == nil {
		return &wire.BackendEmpty{}, nil
	}
	return &wire.BackendEmpty{}, e.exe.Close()
}

// servedGraph is an executable with the types that its graph declares.
type servedGraph struct {
	exe     framework.Executable
	in, out []tensor.Type
}
