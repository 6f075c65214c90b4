package plugins

import (
	"context"
	"fmt"
	"sync"

	"github.com/cockroachdb/errors"
	"google.golang.org/grpc"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins/internal/fragment"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// maxWidth bounds the number of streams.
const maxWidth = 64

// Residual opens the residual of a plugin of that kind. options are those of
// its spec, such as "streams=4", or "". What it returns implements
// framework.Mixer where the plugin's does.
func (c *Client) Residual(options string) (framework.Residual, error) {
	if err := c.wantKind(KindResidual); err != nil {
		return nil, err
	}
	api := wire.NewResidualClient(c.conn)
	var r *wire.OpenResidualReply
	err := c.do(context.Background(), "open", c.call, func(ctx context.Context) (err error) {
		r, err = api.Open(ctx, &wire.OpenRequest{Options: options})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := checkOptions(r.GetOptions()); err != nil {
		return nil, c.fault("open", err)
	}
	res := &remoteResidual{c: c, api: api, options: r.GetOptions(), rows: map[string]tensor.Type{}}
	m := r.GetMixer()
	if m == nil {
		return res, nil
	}
	if res.width = int(m.GetWidth()); res.width < 1 || res.width > maxWidth {
		return nil, c.fault("open", errors.Newf("it mixes %d streams, wants 1 to %d", res.width, maxWidth))
	}
	return &remoteMixer{res, m.GetDoublyStochastic()}, nil
}

// remoteResidual is a residual that answers from another process.
type remoteResidual struct {
	c       *Client
	api     wire.ResidualClient
	options string
	width   int // of a mixer, else 0

	mu   sync.Mutex
	rows map[string]tensor.Type // type of the rows [N,C] by that of the stream; Invalid where two have the same
}

// Spec is plugin:NAME with the options that the plugin's own spec has.
func (r *remoteResidual) Spec() string { return r.c.spec(r.options) }

// Program implements framework.Foreign.
func (r *remoteResidual) Program() string { return r.c.label() }

// Expand inlines the fragment for x [N,C].
func (r *remoteResidual) Expand(b *graph.Builder, x graph.Value) graph.Value {
	n, c := matrix(x)
	s := r.inline(b, residualCall{
		name: "Expand", ask: r.api.Expand, rows: n, cols: c,
		in: []fragment.Port{{Name: "x", Type: x.Type()}}, out: r.stream(n, c),
	}, x)
	r.mu.Lock()
	defer r.mu.Unlock()
	key, known := s.Type().String(), x.Type()
	if t, ok := r.rows[key]; ok && !t.Equal(known) {
		known = tensor.Type{}
	}
	r.rows[key] = known
	return s
}

// stream is what Expand must give: f32 [N,S,C] of a mixer, anything of others.
func (r *remoteResidual) stream(n, c int) fragment.Port {
	p := fragment.Port{Name: "s"}
	if r.width > 0 {
		p.Type = tensor.T(tensor.F32, n, r.width, c)
	}
	return p
}

// rowsOf is the type of the rows behind a stream s, if one is known.
func (r *remoteResidual) rowsOf(s graph.Value) fragment.Port {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := fragment.Port{Name: "x", Type: r.rows[s.Type().String()]}
	if d := s.Shape(); r.width > 0 && len(d) == 3 {
		p.Type = tensor.T(tensor.F32, d[0], d[2])
	}
	return p
}

// Read inlines the fragment of sub-layer l.
func (r *remoteResidual) Read(b *graph.Builder, l int, s graph.Value) graph.Value {
	return r.inline(b, residualCall{
		name: "Read", ask: r.api.Read, layer: l, stream: s.Type(),
		in: []fragment.Port{{Name: "s", Type: s.Type()}}, out: r.rowsOf(s),
	}, s)
}

// Write inlines the fragment of sub-layer l.
func (r *remoteResidual) Write(b *graph.Builder, l int, s, y graph.Value) graph.Value {
	n, c := matrix(y)
	return r.inline(b, residualCall{
		name: "Write", ask: r.api.Write, layer: l, stream: s.Type(), rows: n, cols: c,
		in:  []fragment.Port{{Name: "s", Type: s.Type()}, {Name: "y", Type: y.Type()}},
		out: fragment.Port{Name: "s", Type: s.Type()},
	}, s, y)
}

// Collapse inlines the fragment for the stream s.
func (r *remoteResidual) Collapse(b *graph.Builder, s graph.Value) graph.Value {
	return r.inline(b, residualCall{
		name: "Collapse", ask: r.api.Collapse, stream: s.Type(),
		in: []fragment.Port{{Name: "s", Type: s.Type()}}, out: r.rowsOf(s),
	}, s)
}

// residualCall is a question for a fragment.
type residualCall struct {
	name       string
	ask        func(context.Context, *wire.ResidualRequest, ...grpc.CallOption) (*wire.Fragment, error)
	layer      int
	stream     tensor.Type
	rows, cols int
	in         []fragment.Port
	out        fragment.Port
}

// reserved are the states of the model's own sub-layers, relative to them; what
// else a name could clash with is found when it is declared.
var reserved = []string{"norm.weight"}

func (r *remoteResidual) inline(b *graph.Builder, q residualCall, args ...graph.Value) graph.Value {
	m := &wire.ResidualRequest{Options: r.options, Layer: int32(q.layer), Rows: int64(q.rows), Cols: int64(q.cols)}
	call := q.name
	if q.stream.DType != tensor.Invalid {
		m.Stream = q.stream.String()
		call += " of a stream " + m.Stream
	}
	return r.c.inline(b, request{
		call: call,
		key:  fmt.Sprintf("%s|%s|%d|%s|%d|%d|%v", q.name, r.options, q.layer, m.Stream, q.rows, q.cols, q.out.Type),
		want: fragment.Want{Inputs: q.in, Outputs: []fragment.Port{q.out}, Params: true, Reserved: reserved},
		ask:  func(ctx context.Context) (*wire.Fragment, error) { return q.ask(ctx, m) },
	}, args...)[0]
}

// remoteMixer is a remoteResidual of several streams.
type remoteMixer struct {
	*remoteResidual
	stochastic bool
}

// Width returns the number of streams.
func (r *remoteMixer) Width() int { return r.width }

// DoublyStochastic reports what the plugin claims of its matrices.
func (r *remoteMixer) DoublyStochastic() bool { return r.stochastic }

// Mixing inlines the matrix of sub-layer l, or one for each row of the stream.
func (r *remoteMixer) Mixing(b *graph.Builder, l int, s graph.Value) graph.Value {
	h := r.inline(b, residualCall{
		name: "Mixing", ask: r.api.Mixing, layer: l, stream: s.Type(),
		in: []fragment.Port{{Name: "s", Type: s.Type()}}, out: fragment.Port{Name: "h"},
	}, s)
	one, each := tensor.T(tensor.F32, r.width, r.width), tensor.T(tensor.F32, s.Dim(0), r.width, r.width)
	if t := h.Type(); !t.Equal(one) && !t.Equal(each) {
		graph.FailWith(r.c.fault("Mixing", errors.Newf("h is %v, wants %v or %v", t, one, each)))
	}
	return h
}

// ServeResidual is the main of a residual plugin: it serves r until the host
// goes. With the argument describe it prints Info as JSON.
func ServeResidual(r Residual) {
	serve(KindResidual, r.Meta, func(s *grpc.Server) {
		wire.RegisterResidualServer(s, &residualServer{open: opener[framework.Residual]{open: r.Open}})
	})
}

// residualServer answers by tracing the author's code.
type residualServer struct {
	wire.UnimplementedResidualServer
	open opener[framework.Residual]
}

// Open tells what the residual of some options is.
func (s *residualServer) Open(_ context.Context, q *wire.OpenRequest) (*wire.OpenResidualReply, error) {
	r, err := s.open.get(q.GetOptions())
	if err != nil {
		return nil, err
	}
	reply := &wire.OpenResidualReply{Options: optionsOf(r.Spec())}
	if m, ok := r.(framework.Mixer); ok {
		reply.Mixer = &wire.Mixer{Width: int32(m.Width()), DoublyStochastic: m.DoublyStochastic()}
	}
	return reply, nil
}

// Expand traces Expand.
func (s *residualServer) Expand(_ context.Context, q *wire.ResidualRequest) (*wire.Fragment, error) {
	return s.trace(q, "s", func(r framework.Residual, b *graph.Builder) graph.Value {
		return r.Expand(b, b.Input("x", tensor.F32, int(q.GetRows()), int(q.GetCols())))
	})
}

// Read traces Read.
func (s *residualServer) Read(_ context.Context, q *wire.ResidualRequest) (*wire.Fragment, error) {
	return s.trace(q, "x", func(r framework.Residual, b *graph.Builder) graph.Value {
		return r.Read(b, int(q.GetLayer()), input(b, q))
	})
}

// Write traces Write.
func (s *residualServer) Write(_ context.Context, q *wire.ResidualRequest) (*wire.Fragment, error) {
	return s.trace(q, "s", func(r framework.Residual, b *graph.Builder) graph.Value {
		stream := input(b, q)
		return r.Write(b, int(q.GetLayer()), stream, b.Input("y", tensor.F32, int(q.GetRows()), int(q.GetCols())))
	})
}

// Collapse traces Collapse.
func (s *residualServer) Collapse(_ context.Context, q *wire.ResidualRequest) (*wire.Fragment, error) {
	return s.trace(q, "x", func(r framework.Residual, b *graph.Builder) graph.Value {
		return r.Collapse(b, input(b, q))
	})
}

// Mixing traces Mixing.
func (s *residualServer) Mixing(_ context.Context, q *wire.ResidualRequest) (*wire.Fragment, error) {
	return s.trace(q, "h", func(r framework.Residual, b *graph.Builder) graph.Value {
		m, ok := r.(framework.Mixer)
		if !ok {
			graph.Fail("the residual mixes no streams")
		}
		return m.Mixing(b, int(q.GetLayer()), input(b, q))
	})
}

func (s *residualServer) trace(q *wire.ResidualRequest, out string, fn func(framework.Residual, *graph.Builder) graph.Value) (*wire.Fragment, error) {
	r, err := s.open.get(q.GetOptions())
	if err != nil {
		return nil, err
	}
	return trace(func(b *graph.Builder) { b.Output(out, fn(r, b)) })
}

// input declares the stream of a request.
func input(b *graph.Builder, q *wire.ResidualRequest) graph.Value {
	t, err := tensor.ParseType(q.GetStream())
	if err != nil {
		graph.Fail("%v", err)
	}
	return b.Input("s", t.DType, t.Shape...)
}
