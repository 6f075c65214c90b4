package plugins

import (
	"context"

	"github.com/cockroachdb/errors"
	"google.golang.org/grpc"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// NewStore makes an empty store, or a fork of one.
func (b *backendServer) NewStore(_ context.Context, r *wire.BackendStoreRequest) (*wire.BackendEmpty, error) {
	s, err := b.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	var st framework.Store
	if r.GetParent() == 0 {
		st, err = s.backend.NewStore()
	} else if st, err = s.store(r.GetParent()); err == nil {
		st, err = st.Fork()
	}
	if err != nil {
		return nil, err
	}
	if err := s.keepStore(r.GetId(), st); err != nil {
		return nil, errors.CombineErrors(err, st.Close())
	}
	return &wire.BackendEmpty{}, nil
}

// CloseStore closes a store.
func (b *backendServer) CloseStore(_ context.Context, r *wire.BackendRef) (*wire.BackendEmpty, error) {
	s, err := b.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	st := s.stores[r.GetId()]
	delete(s.stores, r.GetId())
	s.mu.Unlock()
	if st == nil {
		return &wire.BackendEmpty{}, nil
	}
	return &wire.BackendEmpty{}, st.Close()
}

// Names lists what a store holds.
func (b *backendServer) Names(_ context.Context, r *wire.BackendRef) (*wire.BackendNames, error) {
	_, st, err := b.open(r.GetSession(), r.GetId())
	if err != nil {
		return nil, err
	}
	return &wire.BackendNames{Names: st.Names()}, nil
}

// open returns a session and a store of it.
func (b *backendServer) open(session, store uint64) (*backendSession, framework.Store, error) {
	s, err := b.session(session)
	if err != nil {
		return nil, nil, err
	}
	st, err := s.store(store)
	return s, st, err
}

// Put puts a tensor that stands in the arena.
func (b *backendServer) Put(ctx context.Context, r *wire.BackendPutRequest) (*wire.BackendEmpty, error) {
	s, st, err := b.open(r.GetSession(), r.GetStore())
	if err != nil {
		return nil, err
	}
	t, err := s.view(r.GetTensor())
	if err == nil {
		err = put(ctx, st, r.GetName(), t)
	}
	return &wire.BackendEmpty{}, err
}

func put(ctx context.Context, st framework.Store, name string, t *tensor.Tensor) error {
	if len(name) > maxStateName {
		return errors.Wrapf(framework.ErrMismatch, "a name of %d bytes", len(name))
	}
	return st.Put(ctx, name, t)
}

// PutStream puts a tensor that comes in chunks.
func (b *backendServer) PutStream(stream grpc.ClientStreamingServer[wire.BackendPutChunk, wire.BackendEmpty]) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	r := m.GetHead()
	_, st, err := b.open(r.GetSession(), r.GetStore())
	if err != nil {
		return err
	}
	typ, err := tensor.ParseType(r.GetTensor().GetType())
	if err != nil {
		return errors.Wrapf(framework.ErrMismatch, "%v", err)
	}
	data, err := gather(uint64(typ.Bytes()), func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	})
	if err != nil {
		return err
	}
	if err := put(stream.Context(), st, r.GetName(), &tensor.Tensor{Type: typ, Data: data}); err != nil {
		return err
	}
	return stream.SendAndClose(&wire.BackendEmpty{})
}

// Get reads a tensor into the room that the request names, if it fits.
func (b *backendServer) Get(ctx context.Context, r *wire.BackendGetRequest) (*wire.BackendGetReply, error) {
	s, st, err := b.open(r.GetSession(), r.GetStore())
	if err != nil {
		return nil, err
	}
	room, err := s.room(r.GetOffset(), r.GetLength())
	if err != nil {
		return nil, err
	}
	if r.GetType() != "" {
		dst, err := s.view(&wire.BackendTensor{Type: r.GetType(), Offset: r.GetOffset(), Length: r.GetLength()})
		if err == nil {
			err = readInto(ctx, st, r.GetName(), dst)
		}
		return &wire.BackendGetReply{Type: r.GetType(), Fits: true}, err
	}
	t, err := st.Get(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	reply := &wire.BackendGetReply{Type: t.Type.String(), Fits: len(t.Data) <= len(room)}
	if reply.Fits {
		copy(room, t.Data)
	}
	return reply, nil
}

// readInto copies a state into dst, whose type is the state's.
func readInto(ctx context.Context, st framework.Store, name string, dst *tensor.Tensor) error {
	if r, ok := st.(framework.Reader); ok {
		return r.ReadInto(ctx, name, dst)
	}
	t, err := st.Get(ctx, name)
	if err != nil {
		return err
	}
	if !t.Type.Equal(dst.Type) {
		return errors.Wrapf(framework.ErrMismatch, "read %q: it is %v", name, t.Type)
	}
	copy(dst.Data, t.Data)
	return nil
}

// GetStream sends a tensor in chunks.
func (b *backendServer) GetStream(r *wire.BackendGetRequest, stream grpc.ServerStreamingServer[wire.BackendGetChunk]) error {
	_, st, err := b.open(r.GetSession(), r.GetStore())
	if err != nil {
		return err
	}
	t, err := fetch(stream.Context(), st, r)
	if err != nil {
		return err
	}
	if err := stream.Send(&wire.BackendGetChunk{Type: t.Type.String()}); err != nil {
		return err
	}
	return pieces(t.Data, func(p []byte) error { return stream.Send(&wire.BackendGetChunk{Data: p}) })
}

// fetch is Get, as the type that r asks for.
func fetch(ctx context.Context, st framework.Store, r *wire.BackendGetRequest) (*tensor.Tensor, error) {
	t, err := st.Get(ctx, r.GetName())
	if err != nil || r.GetType() == "" || t.Type.String() == r.GetType() {
		return t, err
	}
	typ, err := tensor.ParseType(r.GetType())
	if err != nil || !typ.Shape.Equal(t.Shape) { // else it is no larger than twice what there is
		return nil, errors.Wrapf(framework.ErrMismatch, "read %q: it is %v", r.GetName(), t.Type)
	}
	dst := tensor.New(typ)
	return dst, readInto(ctx, st, r.GetName(), dst)
}
