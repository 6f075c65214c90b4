package plugins

import (
	"context"

	"github.com/cockroachdb/errors"
	"google.golang.org/grpc"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// target finds what a run names.
func (b *backendServer) target(r *wire.BackendRunRequest) (*backendSession, framework.Store, *servedGraph, error) {
	s, st, err := b.open(r.GetSession(), r.GetStore())
	if err != nil {
		return nil, nil, nil, err
	}
	e, err := s.executable(r.GetExecutable())
	return s, st, e, err
}

// Run runs an executable on tensors in the arena.
func (b *backendServer) Run(ctx context.Context, r *wire.BackendRunRequest) (*wire.BackendEmpty, error) {
	s, st, e, err := b.target(r)
	if err != nil {
		return nil, err
	}
	in, err := s.views(r.GetInputs())
	if err != nil {
		return nil, errors.Wrap(err, "inputs")
	}
	out, err := s.views(r.GetOutputs())
	if err != nil {
		return nil, errors.Wrap(err, "outputs")
	}
	run, done := s.begin(ctx, r.GetId())
	defer done()
	return &wire.BackendEmpty{}, e.exe.Run(run, st, in, out)
}

func (s *backendSession) views(list []*wire.BackendTensor) ([]*tensor.Tensor, error) {
	ts := make([]*tensor.Tensor, len(list))
	for i, t := range list {
		var err error
		if ts[i], err = s.view(t); err != nil {
			return nil, err
		}
	}
	return ts, nil
}

// RunStream is Run with tensors in chunks.
func (b *backendServer) RunStream(stream grpc.BidiStreamingServer[wire.BackendRunChunk, wire.BackendData]) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	s, st, e, err := b.target(m.GetHead())
	if err != nil {
		return err
	}
	in, inBytes, err := joined(m.GetHead().GetInputs(), e.in)
	if err != nil {
		return errors.Wrap(err, "inputs")
	}
	out, _, err := joined(m.GetHead().GetOutputs(), e.out)
	if err != nil {
		return errors.Wrap(err, "outputs")
	}
	data, err := gather(inBytes, func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	})
	if err != nil {
		return err
	}
	for _, t := range in {
		t.Data = tensor.AlignedBytes(t.Type.Bytes())
		data = data[copy(t.Data, data):]
	}
	for _, t := range out {
		t.Data = tensor.AlignedBytes(t.Type.Bytes())
	}
	run, done := s.begin(stream.Context(), m.GetHead().GetId())
	defer done()
	if err := e.exe.Run(run, st, in, out); err != nil {
		return err
	}
	for _, t := range out {
		if err := pieces(t.Data, func(p []byte) error { return stream.Send(&wire.BackendData{Data: p}) }); err != nil {
			return err
		}
	}
	return nil
}

// joined makes tensors without data, and counts their bytes. Their shapes must
// be those that the graph declares, which bounds the memory for them.
func joined(list []*wire.BackendTensor, want []tensor.Type) ([]*tensor.Tensor, uint64, error) {
	if len(list) != len(want) {
		return nil, 0, errors.Wrapf(framework.ErrMismatch, "%d tensors, the graph has %d", len(list), len(want))
	}
	ts, n := make([]*tensor.Tensor, len(list)), uint64(0)
	for i, t := range list {
		typ, err := tensor.ParseType(t.GetType())
		if err != nil || !typ.Shape.Equal(want[i].Shape) {
			return nil, 0, errors.Wrapf(framework.ErrMismatch, "%q, the graph has %v", t.GetType(), want[i])
		}
		ts[i] = &tensor.Tensor{Type: typ}
		n += uint64(typ.Bytes())
	}
	return ts, n, nil
}

// Cancel stops a run.
func (b *backendServer) Cancel(_ context.Context, r *wire.BackendRef) (*wire.BackendEmpty, error) {
	s, err := b.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	s.cancel(r.GetId())
	return &wire.BackendEmpty{}, nil
}
