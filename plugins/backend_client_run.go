package plugins

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins/internal/arena"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// remoteExecutable implements framework.Executable by calls.
type remoteExecutable struct {
	b       *remoteBackend
	id      uint64
	in, out []tensor.Type // as the graph declares them
	first   atomic.Int64  // nanoseconds of the first run that ended well
	closed  atomic.Bool
	mu      sync.Mutex
	frames  []*frame // not in use
}

// frame is shared memory for one run at a time: its tensors, one after another,
// and the request that names them.
type frame struct {
	span    arena.Span
	in, out [][]byte
	request *wire.BackendRunRequest
}

// Run makes one call. A canceled ctx asks the plugin to stop, which it does only
// where no state has changed; Run waits for its answer.
func (e *remoteExecutable) Run(ctx context.Context, fs framework.Store, in, out []*tensor.Tensor) error {
	s, ok := fs.(*remoteStore)
	if !ok || s.b != e.b {
		return errors.Wrap(framework.ErrMismatch, "run: the store belongs to another backend")
	}
	if e.closed.Load() || s.closed.Load() || e.b.closed.Load() {
		return e.b.fault("run", framework.ErrClosed)
	}
	if err := fits("input", in, e.in); err != nil {
		return err
	}
	if err := fits("output", out, e.out); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return errors.Wrap(err, "run")
	}
	if f := e.frame(in, out); f != nil {
		return e.runShared(ctx, s, f, in, out)
	}
	return e.runStream(ctx, s, in, out)
}

// fits checks tensors against the types that the graph declares. A backend may
// carry f32 as f64; whether this one does, it says itself.
func fits(what string, ts []*tensor.Tensor, want []tensor.Type) error {
	if len(ts) != len(want) {
		return errors.Wrapf(framework.ErrMismatch, "run: %d tensors as %s, the graph has %d", len(ts), what, len(want))
	}
	for i, t := range ts {
		wide := t != nil && t.DType == tensor.F64 && want[i].DType == tensor.F32
		if t == nil || !t.Shape.Equal(want[i].Shape) || t.DType != want[i].DType && !wide || len(t.Data) != t.Type.Bytes() {
			return errors.Wrapf(framework.ErrMismatch, "%s %d: wants %v", what, i, want[i])
		}
	}
	return nil
}

func (e *remoteExecutable) runShared(ctx context.Context, s *remoteStore, f *frame, in, out []*tensor.Tensor) error {
	for i, t := range in {
		copy(f.in[i], t.Data)
	}
	f.request.Id, f.request.Store = e.b.ids.Add(1), s.id
	err := e.call(ctx, f.request.Id, func(ctx context.Context) error {
		_, err := e.b.api.Run(ctx, f.request)
		return err
	})
	if errors.Is(err, ErrTimeout) || errors.Is(err, ErrDied) {
		e.b.memory.Free(f.span) // gRPC may still hold the request
		return err
	}
	defer e.giveBack(f)
	if err != nil {
		return err
	}
	for i, t := range out {
		copy(t.Data, f.out[i])
	}
	return nil
}

// call makes the call of run id, in the time that runs of e have.
func (e *remoteExecutable) call(ctx context.Context, id uint64, fn func(context.Context) error) error {
	b := e.b
	limit := firstRunCalls * b.call
	if first := e.first.Load(); first > 0 {
		limit = max(b.call, slowRuns*time.Duration(first))
	}
	stop := context.AfterFunc(ctx, func() {
		quiet, cancel := context.WithTimeout(context.Background(), b.call)
		defer cancel()
		// If it fails, the run goes on to its end.
		_, _ = b.api.Cancel(quiet, &wire.BackendRef{Session: b.session, Id: id})
	})
	defer stop()
	start := time.Now()
	err := b.do(context.WithoutCancel(ctx), "run", limit, fn)
	if err == nil {
		e.first.CompareAndSwap(0, int64(time.Since(start)))
	} else if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errors.Wrap(ctx.Err(), "run")
	}
	return err
}

// frame returns shared memory for these tensors, or nil where there is none.
func (e *remoteExecutable) frame(in, out []*tensor.Tensor) *frame {
	if e.b.memory == nil {
		return nil
	}
	e.mu.Lock()
	for i := len(e.frames) - 1; i >= 0; i-- {
		if f := e.frames[i]; f.holds(in, out) {
			e.frames = append(e.frames[:i], e.frames[i+1:]...)
			e.mu.Unlock()
			return f
		}
	}
	e.mu.Unlock()
	return e.newFrame(in, out)
}

// holds reports whether f is for tensors of these sizes; their shapes are those
// of the graph.
func (f *frame) holds(in, out []*tensor.Tensor) bool {
	for i, t := range in {
		if len(f.in[i]) != len(t.Data) {
			return false
		}
	}
	for i, t := range out {
		if len(f.out[i]) != len(t.Data) {
			return false
		}
	}
	return true
}

func (e *remoteExecutable) newFrame(in, out []*tensor.Tensor) *frame {
	n := 0
	for _, list := range [][]*tensor.Tensor{in, out} {
		for _, t := range list {
			n += aligned(len(t.Data))
		}
	}
	span, room, err := e.b.room(n)
	if err != nil {
		return nil
	}
	f := &frame{span: span, request: &wire.BackendRunRequest{Session: e.b.session, Executable: e.id}}
	at := 0
	place := func(ts []*tensor.Tensor) (data [][]byte, refs []*wire.BackendTensor) {
		for _, t := range ts {
			data = append(data, room[at:at+len(t.Data):at+len(t.Data)])
			refs = append(refs, &wire.BackendTensor{Type: t.Type.String(), Offset: span.Offset + uint64(at), Length: uint64(len(t.Data))})
			at += aligned(len(t.Data))
		}
		return data, refs
	}
	f.in, f.request.Inputs = place(in)
	f.out, f.request.Outputs = place(out)
	return f
}

// aligned rounds n bytes up to where the next tensor may start.
func aligned(n int) int { return (n + arena.Align - 1) / arena.Align * arena.Align }

// giveBack keeps f for another run, unless the executable is closed.
func (e *remoteExecutable) giveBack(f *frame) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Load() {
		e.b.memory.Free(f.span)
		return
	}
	e.frames = append(e.frames, f)
}

// runStream is Run with tensors in chunks.
func (e *remoteExecutable) runStream(ctx context.Context, s *remoteStore, in, out []*tensor.Tensor) error {
	head := &wire.BackendRunRequest{Session: e.b.session, Id: e.b.ids.Add(1), Executable: e.id, Store: s.id}
	for _, t := range in {
		head.Inputs = append(head.Inputs, &wire.BackendTensor{Type: t.Type.String()})
	}
	parts := make([][]byte, len(out))
	for i, t := range out {
		head.Outputs = append(head.Outputs, &wire.BackendTensor{Type: t.Type.String()})
		parts[i] = t.Data
	}
	return e.call(ctx, head.Id, func(ctx context.Context) error {
		stream, err := e.b.api.RunStream(ctx)
		if err != nil {
			return err
		}
		// What breaks a stream off is the error of the answer.
		if stream.Send(&wire.BackendRunChunk{Head: head}) == nil {
			for _, t := range in {
				_ = pieces(t.Data, func(p []byte) error { return stream.Send(&wire.BackendRunChunk{Data: p}) })
			}
		}
		_ = stream.CloseSend()
		return lied(receive(parts, func() ([]byte, error) {
			m, err := stream.Recv()
			return m.GetData(), err
		}))
	})
}

// Close frees the executable in the plugin.
func (e *remoteExecutable) Close() error {
	e.mu.Lock()
	again := e.closed.Swap(true)
	for _, f := range e.frames {
		e.b.memory.Free(f.span)
	}
	e.frames = nil
	e.mu.Unlock()
	if again {
		return nil
	}
	return e.b.drop("close executable", func(ctx context.Context) error {
		_, err := e.b.api.CloseExecutable(ctx, &wire.BackendRef{Session: e.b.session, Id: e.id})
		return err
	})
}
