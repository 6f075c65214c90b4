package plugins

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins/internal/arena"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// firstRoom is the room for a tensor whose size is not known yet, in bytes.
const firstRoom = 256 << 10

// remoteStore implements framework.Store by calls.
type remoteStore struct {
	b      *remoteBackend
	id     uint64
	closed atomic.Bool
}

// live makes a call on an open store.
func (s *remoteStore) live(ctx context.Context, call string, n int, fn func(context.Context) error) error {
	if s.closed.Load() {
		return s.b.fault(call, errors.Wrap(framework.ErrClosed, "store"))
	}
	return s.b.short(ctx, call, n, fn)
}

// Put copies t into the plugin's memory.
func (s *remoteStore) Put(ctx context.Context, name string, t *tensor.Tensor) error {
	if err := t.Check(); err != nil {
		return errors.Wrapf(framework.ErrMismatch, "put %q: %v", name, err)
	}
	if len(t.Data) != t.Type.Bytes() {
		return errors.Wrapf(framework.ErrMismatch, "put %q: %d bytes for %v", name, len(t.Data), t.Type)
	}
	head := &wire.BackendPutRequest{
		Session: s.b.session, Store: s.id, Name: name,
		Tensor: &wire.BackendTensor{Type: t.Type.String(), Length: uint64(len(t.Data))},
	}
	return s.live(ctx, "put "+name, len(t.Data), func(ctx context.Context) error {
		span, room, err := s.b.room(len(t.Data))
		if err != nil {
			return s.putStream(ctx, head, t.Data)
		}
		defer s.b.memory.Free(span)
		copy(room, t.Data)
		head.Tensor.Offset = span.Offset
		_, err = s.b.api.Put(ctx, head)
		return err
	})
}

// room takes n bytes of the shared memory. Without one, or where it is full,
// there is an error, and tensors go by stream.
func (b *remoteBackend) room(n int) (arena.Span, []byte, error) {
	if b.memory == nil {
		return arena.Span{}, nil, arena.ErrUnsupported
	}
	span, err := b.memory.Alloc(uint64(n))
	if err != nil {
		return arena.Span{}, nil, err
	}
	room, err := b.memory.Bytes(span)
	if err != nil {
		b.memory.Free(span)
		return arena.Span{}, nil, err
	}
	return span, room[:n], nil
}

func (s *remoteStore) putStream(ctx context.Context, head *wire.BackendPutRequest, data []byte) error {
	stream, err := s.b.api.PutStream(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&wire.BackendPutChunk{Head: head}); err == nil {
		// What breaks a stream off is the error of its end.
		_ = pieces(data, func(p []byte) error { return stream.Send(&wire.BackendPutChunk{Data: p}) })
	}
	_, err = stream.CloseAndRecv()
	return err
}

// Borrow implements framework.Borrower: the plugin gets a copy, so the caller
// may let go of t.
func (s *remoteStore) Borrow(ctx context.Context, name string, t *tensor.Tensor) error {
	return s.Put(ctx, name, t)
}

// Get copies a tensor out.
func (s *remoteStore) Get(ctx context.Context, name string) (*tensor.Tensor, error) {
	t, n := (*tensor.Tensor)(nil), firstRoom
	for t == nil {
		var again int
		err := s.live(ctx, "get "+name, n, func(ctx context.Context) (err error) {
			t, again, err = s.get(ctx, name, n)
			return err
		})
		if err != nil {
			return nil, err
		}
		if t == nil && again <= n {
			return nil, s.b.fault("get "+name, errors.Wrapf(ErrReply, "%d bytes do not fit into %d", again, n))
		}
		n = again
	}
	return t, nil
}

// get makes one try with room for n bytes. If they are too few, it returns how
// many are needed.
func (s *remoteStore) get(ctx context.Context, name string, n int) (*tensor.Tensor, int, error) {
	r := &wire.BackendGetRequest{Session: s.b.session, Store: s.id, Name: name}
	span, room, err := s.b.room(n)
	if err != nil {
		t, err := s.getStream(ctx, r, nil)
		return t, 0, err
	}
	defer s.b.memory.Free(span)
	r.Offset, r.Length = span.Offset, uint64(len(room))
	reply, err := s.b.api.Get(ctx, r)
	if err != nil {
		return nil, 0, err
	}
	typ, err := tensor.ParseType(reply.GetType())
	if err != nil {
		return nil, 0, errors.Wrapf(ErrReply, "%v", err)
	}
	if !reply.GetFits() {
		return nil, typ.Bytes(), nil
	}
	if typ.Bytes() > len(room) {
		return nil, 0, errors.Wrapf(ErrReply, "%v in %d bytes", typ, len(room))
	}
	t := tensor.New(typ)
	copy(t.Data, room)
	return t, 0, nil
}

// getStream receives a tensor, into dst if there is one.
func (s *remoteStore) getStream(ctx context.Context, r *wire.BackendGetRequest, dst *tensor.Tensor) (*tensor.Tensor, error) {
	r.Offset, r.Length = 0, 0
	stream, err := s.b.api.GetStream(ctx, r)
	if err != nil {
		return nil, err
	}
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, errors.Wrap(ErrReply, "the answer is empty")
	} else if err != nil {
		return nil, err
	}
	typ, err := tensor.ParseType(first.GetType())
	if err != nil {
		return nil, errors.Wrapf(ErrReply, "%v", err)
	}
	if dst != nil && !dst.Type.Equal(typ) {
		return nil, errors.Wrapf(ErrReply, "%v instead of %v", typ, dst.Type)
	}
	next := func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	}
	if dst == nil {
		data, err := gather(uint64(typ.Bytes()), next)
		return &tensor.Tensor{Type: typ, Data: data}, lied(err)
	}
	return dst, lied(receive([][]byte{dst.Data}, next))
}

// ReadInto implements framework.Reader.
func (s *remoteStore) ReadInto(ctx context.Context, name string, dst *tensor.Tensor) error {
	if err := dst.Check(); err != nil || len(dst.Data) != dst.Type.Bytes() {
		return errors.Wrapf(framework.ErrMismatch, "read %q: %d bytes for %v", name, len(dst.Data), dst.Type)
	}
	r := &wire.BackendGetRequest{Session: s.b.session, Store: s.id, Name: name, Type: dst.Type.String()}
	return s.live(ctx, "read "+name, len(dst.Data), func(ctx context.Context) error {
		span, room, err := s.b.room(len(dst.Data))
		if err != nil {
			_, err := s.getStream(ctx, r, dst)
			return err
		}
		defer s.b.memory.Free(span)
		r.Offset, r.Length = span.Offset, uint64(len(room))
		if _, err := s.b.api.Get(ctx, r); err != nil {
			return err
		}
		copy(dst.Data, room)
		return nil
	})
}

// Names returns the names held, sorted; none when the plugin does not answer,
// which the next call that returns an error tells.
func (s *remoteStore) Names() []string {
	var names []string
	err := s.live(context.Background(), "names", 0, func(ctx context.Context) error {
		r, err := s.b.api.Names(ctx, &wire.BackendRef{Session: s.b.session, Id: s.id})
		if err == nil {
			names = r.GetNames()
			err = goodNames(names)
		}
		return err
	})
	if err != nil {
		return nil
	}
	return names
}

// Fork returns a store whose reads fall through to s.
func (s *remoteStore) Fork() (framework.Store, error) {
	if s.closed.Load() {
		return nil, s.b.fault("fork", errors.Wrap(framework.ErrClosed, "store"))
	}
	return s.b.newStore("fork", s.id)
}

// Close frees the store in the plugin.
func (s *remoteStore) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.b.drop("close store", func(ctx context.Context) error {
		_, err := s.b.api.CloseStore(ctx, &wire.BackendRef{Session: s.b.session, Id: s.id})
		return err
	})
}
